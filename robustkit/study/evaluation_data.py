"""The data of an evaluation: which samples of which dataset, and how others are loaded beside it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustkit import data
from robustkit.base.errors import UserError
from robustkit.data import Dataset, Split
from robustkit.records.cells import DatasetRecord


@dataclass(frozen=True)
class EvaluationData:
    """What is evaluated on.

    Attributes
    ----------
    dataset : Dataset
        The whole of it; a suite may need its other splits.
    split : Split
        The samples that are evaluated.
    name : str
        What the split is called in the record: ``test``, or ``everything`` of a file that no checkpoint has seen.
    load : callable
        Loads another dataset by name, as this one was loaded.
    held_out : bool
        Whether each checkpoint's record says that it was trained on this dataset, its validation split held out.
    """

    dataset: Dataset
    split: Split
    name: str
    load: Callable[[str], Dataset]
    held_out: bool

    def record(self) -> DatasetRecord:
        """Return what the study keeps of it."""
        loaded, split = self.dataset, self.split
        return DatasetRecord(
            loaded.name, self.name, len(split), tuple(loaded.classes), split.sha256(), tuple(loaded.shape),
            loaded.image_size,
        )  # fmt: skip


def evaluation_data(
    dataset: str | Dataset,
    metas: Sequence[Mapping[str, Any]],
    *,
    data_dir: str | Path | None = None,
    download: bool = False,
    image_size: int | str | None = None,
    n: int | None = None,
) -> EvaluationData:
    """Load the dataset and choose its samples: never any that a checkpoint was trained on, as far as its record tells.

    Parameters
    ----------
    metas : sequence of dict
        The record of each ensemble that is not trained here, empty where nothing is known of its training.
    n : int or None
        Only the first n samples.
    """
    loaded = dataset
    if isinstance(loaded, str):
        loaded = data.load(loaded, data_dir=data_dir, download=download, image_size=image_size)
    split, name = _evaluated(loaded, metas)
    held_out = all(_trained_on(loaded, meta) for meta in metas)
    load = functools.partial(_load, data_dir, download, image_size)
    return EvaluationData(loaded, split if n is None else split.take(n), name, load, held_out)


def too_many(n: int | None, split: Split) -> str:
    """Return a sentence where more samples were asked for than there are, else nothing."""
    if n is None or n <= len(split):
        return ""
    return f"n {n} is more than the {len(split)} samples that there are; all are used."


def _load(data_dir: str | Path | None, download: bool, image_size: int | str | None, name: str) -> Dataset:
    """Load a dataset beside the evaluated one, whose image size not every dataset takes."""
    size = image_size if data.takes_image_size(name) else None
    return data.load(name, data_dir=data_dir, download=download, image_size=size)


def _trained_on(loaded: Dataset, meta: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint's record says that it was trained on this training split, its validation held out."""
    known = meta.get("data") or {}
    try:
        return known.get("name") == loaded.name and known.get("sha256") == loaded.split("train").sha256()
    except UserError:  # no training images at hand
        return False


def _evaluated(loaded: Dataset, metas: Sequence[Mapping[str, Any]]) -> tuple[Split, str]:
    if loaded.whole and metas:
        seen = {(meta.get("data") or {}).get("sha256") for meta in metas}
        if loaded.split("train").sha256() not in seen:
            return loaded.everything(), "everything"
    return loaded.split("test"), "test"

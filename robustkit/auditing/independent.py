"""An independent model beside the audited one: robustkit's baseline. What fools it is tried on the other, too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from robustkit.base import options
from robustkit.base.errors import UserError
from robustkit.base.names import SUITES
from robustkit.base.progress import Reporter
from robustkit.data import Dataset
from robustkit.ensembles.checkpoint import read_meta
from robustkit.pipeline import models_under_test
from robustkit.pipeline.models_under_test import Surrogate
from robustkit.records.cells import Spec
from robustkit.training import spec as trainspec

TRAIN = "train"  # rather than a folder


def check(baseline: str | Path, suites: Any) -> None:
    """Raise a :class:`UserError` if the folder is no checkpoint, or no suite would make use of it."""
    if suites is not None and not {"transfer", "all"} & set(options.names(suites, kind="suite")):
        raise UserError(f"--baseline {baseline} serves the suite transfer, one of {', '.join(SUITES)}; name it, too.")
    if baseline != TRAIN:
        read_meta(baseline)


def baseline_of(
    baseline: str | Path, loaded: Dataset, device: torch.device, asked: Mapping[str, Any], reporter: Reporter
) -> Surrogate:
    """Return robustkit's baseline: one trained on the data (or from the cache), or the folder that one lies in.

    Parameters
    ----------
    baseline : str or path
        ``train``: the plain ensemble of the dataset's recipe, the same that ``robustkit evaluate`` trains. Else a
        folder that ``robustkit train`` wrote, whatever its defence.
    asked : mapping
        Arguments of :func:`robustkit.evaluate`: of these ``settings`` (``train.lr=...``), ``speed`` and ``seed`` count.
    """
    if baseline != TRAIN:
        meta = read_meta(baseline)
        return *models_under_test.from_checkpoint(baseline, meta, None, None, loaded), meta
    training = trainspec.settings(options.assignments(asked.get("settings")).get("train", {}))
    plain, speed, seed = Spec("defense", "baseline", {}), asked.get("speed", "auto"), asked.get("seed", 0)
    spec = models_under_test.train_spec(plain, loaded, training, speed=speed, seed=seed)
    data = {"name": loaded.name, "sha256": spec.data_sha256}
    return *models_under_test.trained(spec, loaded, device, reporter), {"data": data}

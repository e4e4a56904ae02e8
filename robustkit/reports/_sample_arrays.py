"""``samples.npz``: the table of samples as arrays, with every answer and some images, which the page is made of.

It lies beside ``samples.csv`` and names the hash of it, so that a page is never made of the samples of other results.
Never imports torch.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robustkit.records.outcomes import Answers, SampleOutcomes
from robustkit.records.schema import Results
from robustkit.reports._files import write_bytes
from robustkit.reports._once import once

FILE = "samples.npz"
IMAGES = ("original", "perturbation", "result")
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Picture:
    """One image, what an attack did to it, and what the ensemble said of both; the images are PNG files.

    ``about`` is plain JSON: see :mod:`robustkit.reports._page.pictures`, which makes it.
    """

    about: Mapping[str, Any]
    original: bytes
    perturbation: bytes
    result: bytes

    @property
    def size(self) -> int:
        """Bytes of the three files."""
        return len(self.original) + len(self.perturbation) + len(self.result)


@dataclass(frozen=True)
class SampleTable:
    """What ``samples.npz`` holds.

    Attributes
    ----------
    outcomes : sequence of SampleOutcomes
        One an ensemble, without cells.
    pictures : sequence of Picture
        Images of some samples.
    notes : sequence of str
        Sentences on images that are missing.
    kept : mapping of str to int
        Of how many of the first samples of an ensemble, by its id, the store has images.
    """

    outcomes: Sequence[SampleOutcomes]
    pictures: Sequence[Picture] = ()
    notes: Sequence[str] = ()
    kept: Mapping[str, int] = field(default_factory=dict)


def write_arrays(samples: SampleTable, csv_sha256: str, out: Path) -> Path:
    """Write the file below ``out``."""
    arrays: dict[str, Array] = {}
    for at, one in enumerate(samples.outcomes):
        own = {"ids": one.ids, "labels": one.labels, "clean_prediction": one.predictions, "clean_right": one.clean}
        own["right"] = np.stack(one.attacked) if one.attacked else np.zeros((0, len(one.ids)))
        if one.answers:
            own["prediction"] = np.stack([said.fused for said in one.answers])
            own["votes"] = np.stack([said.members for said in one.answers])
        arrays |= {f"{at}/{name}": small(values) for name, values in own.items()}
    for at, picture in enumerate(samples.pictures):
        arrays |= {f"picture/{at}/{name}": _bytes(getattr(picture, name)) for name in IMAGES}
    about = {
        "samples": csv_sha256, "ensembles": [one.ensemble for one in samples.outcomes], "notes": list(samples.notes),
        "kept": dict(samples.kept),
        "pictures": [dict(picture.about) for picture in samples.pictures],
    }  # fmt: skip
    arrays["about"] = _bytes(json.dumps(about, allow_nan=False).encode())
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    return write_bytes(out / FILE, stream.getvalue())


def read_arrays(results: Results, out: Path) -> SampleTable | None:
    """Return what lies below ``out`` of the samples of these very results; None where there is nothing whole.

    Formats that are written together read it once.
    """
    return next(iter(once(_read, results, out)), None)


def _read(results: Results, out: Path) -> Iterator[SampleTable]:
    try:
        content = (out / FILE).read_bytes()
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            about = json.loads(arrays["about"].tobytes())
            if about["samples"] != results["samples"]["sha256"]:
                return
            outcomes = [_outcomes(arrays, at, name) for at, name in enumerate(about["ensembles"])]
            pictures = [
                Picture(one, *(arrays[f"picture/{at}/{name}"].tobytes() for name in IMAGES))
                for at, one in enumerate(about["pictures"])
            ]
            found = SampleTable(outcomes, pictures, about["notes"], about["kept"])
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return
    yield found


def _outcomes(arrays: Mapping[str, Array], at: int, name: str) -> SampleOutcomes:
    def own(column: str) -> Array:
        return arrays[f"{at}/{column}"]

    answers = []
    if f"{at}/votes" in arrays:
        answers = [Answers(fused, members) for fused, members in zip(own("prediction"), own("votes"), strict=True)]
    clean, right = own("clean_right").astype(np.float64), own("right").astype(np.float64)
    return SampleOutcomes(name, own("ids"), own("labels"), own("clean_prediction"), clean, list(right), answers)


def small(values: Array) -> Array:
    """Return whole numbers in the smallest type that holds them; others stay as they are."""
    if not values.size:
        return values.astype(np.uint8)
    whole = values.astype(np.int64)
    if not (whole == values).all():
        return values
    return whole.astype(np.promote_types(np.min_scalar_type(whole.min()), np.min_scalar_type(whole.max())))


def _bytes(content: bytes) -> Array:
    return np.frombuffer(content, np.uint8)

"""Whether a model and the data it is audited on belong together: channels, classes, and some accuracy at all."""

from __future__ import annotations

from robustkit.auditing._findings import WHAT
from robustkit.auditing.detecting import Detected
from robustkit.base.errors import UserError
from robustkit.data import Dataset

COUNTED = ("npz", "idx")  # datasets that have as many classes as their highest label says, unless they name them


def check(found: Detected, name: str, loaded: Dataset) -> None:
    """Raise a :class:`UserError` unless a model, called ``name``, seems made for such data.

    Its channels and, where the data say how many classes there are, its outputs are those of the data, and it is right
    on clearly more of the images than a constant answer, if so many images can show that.
    """
    remedy = "name the data that it was made for with --dataset, or add --force to evaluate it on these all the same"
    best, (channels, *_) = found.trials[0], loaded.shape
    if found.how.channels != channels:
        raise UserError(
            f"'{name}' takes images of {found.how.channels} channels, those of {loaded.name} have {channels}; {remedy}."
        )
    numbers = loaded.classes == tuple(map(str, range(len(loaded.classes))))
    counted = loaded.name.partition(":")[0] in COUNTED and numbers
    if best.outputs != len(loaded.classes) and not counted and not found.how.columns:
        order = next((f": {f.evidence}" for f in found.findings if f.what == WHAT), "")
        text = f"'{name}' has {best.outputs} outputs, but {loaded.name} has {len(loaded.classes)} classes{order}"
        raise UserError(f"{text}; {remedy}, or say with --class-order which output stands for which class.")
    finite = not any(f.what == "finite outputs" and f.concern for f in found.findings)
    if found.at_chance and finite:  # outputs that are not finite are reason enough, and the audit tells it
        best = max(found.trials, key=lambda trial: trial.score)
        ways = f"in the best of {len(found.trials)} ways to run it" if len(found.trials) > 1 else "run as you say"
        raise UserError(
            f"'{name}' is right on {best.score:.3f} of {best.n} images of {loaded.name} {ways}, no better than a "
            f"constant answer; {remedy}."
        )

"""Per-sample facts of one cell: what the model said of each image, and what was done to it. Never imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

OK, ERROR, OVER_BUDGET, NOT_ATTACKED = 0, 1, 2, 3  # per-sample status codes of Samples.status
HERE, CARRIED, CONFIRMED, MISSED = 0, 1, 2, 3  # per-sample codes of Samples.carried

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Samples:
    """Per-sample facts of one cell, N samples, M members, L classes.

    ``member_logits`` (M, N, L) and ``fused`` (N, L) log-probabilities are those of the untouched fp32 model on the
    perturbed images (on the clean ones for a ``clean`` cell). ``target`` is -1 where the attack was untargeted.
    ``l0`` (share of changed elements), ``l1``, ``l2``, ``linf`` are sizes of the perturbation; ``forwards`` and
    ``backwards`` count the passes of the attacked model that the sample took part in; ``seconds`` is its share of the
    crafting time; ``status`` is one of OK, ERROR, OVER_BUDGET, NOT_ATTACKED; ``carried`` is HERE where this cell made
    the image, CARRIED where a smaller eps had broken the model already and all but the seconds is taken over from it,
    and CONFIRMED or MISSED for those of the carried that were attacked anew to see whether this eps breaks them too.
    ``history`` (N', T) holds the attack loss over the steps of the first N' samples, NaN where a sample had left.
    ``examples`` (N'', C, H, W) are the images of the first N'', all of them as long as they take at most 256 MiB.
    ``randomised`` says of each sample whether ``fused`` is the distribution of answers that are drawn (the fusion
    ``random``); it is written only where it is so.
    """

    ids: Ints
    y: Ints
    target: Ints
    member_logits: Floats
    fused: Floats
    l0: Floats
    l1: Floats
    l2: Floats
    linf: Floats
    forwards: Ints
    backwards: Ints
    seconds: Floats
    status: Ints
    carried: Ints
    history: Floats
    examples: Floats
    randomised: Bools = field(default_factory=lambda: np.zeros(0, np.bool_))

    def __post_init__(self) -> None:
        flags = self.randomised if len(self.randomised) else np.zeros(len(self.y), np.bool_)
        object.__setattr__(self, "randomised", np.asarray(flags, np.bool_))

    @property
    def prediction(self) -> Ints:
        """Fused prediction of each sample, (N,)."""
        return np.asarray(self.fused.argmax(1), np.int64)

    @property
    def member_prediction(self) -> Ints:
        """Prediction of each member, (M, N)."""
        return np.asarray(self.member_logits.argmax(2), np.int64)

    @property
    def failed(self) -> Bools:
        """Whether the attack on a sample crashed, or the model's output is not finite, (N,)."""
        result: Bools = self.status == ERROR
        return result

    def chance(self, labels: Ints) -> Doubles:
        """How likely each sample is classified as the label, (N,): 1 or 0 unless the answer is drawn.

        To seven decimals, as exact as float32 keeps a probability.
        """
        sure: Doubles = (self.prediction == labels).astype(np.float64)
        if not self.randomised.any():
            return sure
        own = np.take_along_axis(self.fused.astype(np.float64), labels.clip(0)[:, None], 1)[:, 0]
        return np.where(self.randomised, np.where(labels < 0, 0.0, np.exp(own).clip(0, 1).round(7)), sure)

    @property
    def correctness(self) -> Doubles:
        """How likely each sample is classified right, (N,), whose mean is the expected accuracy; 0 if it failed."""
        return np.where(self.failed, 0.0, self.chance(self.y))

    @property
    def right(self) -> Bools:
        """Whether each sample is classified right by the ensemble, (N,); none that failed is."""
        result: Bools = (self.prediction == self.y) & ~self.failed
        return result

    def size(self, norm: str) -> Floats:
        """Size of each perturbation, (N,): l0 as a share of elements, l1, l2, linf in pixel units."""
        return {"l0": self.l0, "l1": self.l1, "l2": self.l2, "linf": self.linf}[norm]

    def distance(self, norm: str, elements: int) -> Doubles:
        """Size of each perturbation in the unit of budgets, (N,): of l0 how many of an image's ``elements`` changed."""
        size: Doubles = self.size(norm).astype(np.float64)
        return np.rint(size * elements) if norm == "l0" else size

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays by name, as they are written."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        return own if self.randomised.any() else {k: v for k, v in own.items() if k != "randomised"}

    @classmethod
    def joined(cls, parts: Sequence[Samples]) -> Samples:
        """Put consecutive samples together; a history that is shorter than the others' ends in NaN."""
        steps = max(part.history.shape[1] for part in parts)
        history = [np.pad(p.history, ((0, 0), (0, steps - p.history.shape[1])), constant_values=np.nan) for p in parts]
        arrays = {
            name: np.concatenate([getattr(part, name) for part in parts], axis=1 if name == "member_logits" else 0)
            for name in parts[0].arrays()
            if name != "history"
        }
        return cls(**arrays, history=np.concatenate(history))

    def select(self, rows: Ints | slice) -> Samples:
        """Return some of the samples, without their loss histories.

        Where only the first have images, a slice keeps those that it reaches; of other rows none is kept.
        """
        whole = len(self.examples) == len(self.y) or isinstance(rows, slice)
        kept: dict[str, npt.NDArray[Any]] = {}
        for name, values in self.arrays().items():
            if name == "history" or (name == "examples" and not whole):
                kept[name] = values[:0]
            else:
                kept[name] = values[:, rows] if name == "member_logits" else values[rows]
        return Samples(**kept)

    def whole(self) -> Samples:
        """Return the samples that did not fail, without their loss histories."""
        return self.select(np.flatnonzero(~self.failed))

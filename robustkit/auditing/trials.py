"""Ways to run a model, and what a trial of one on clean labelled images shows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from robustkit.auditing import comparing
from robustkit.auditing.adapting import STATISTICS, Adapted, Preprocessing
from robustkit.auditing.behaviour import kind_of
from robustkit.base.errors import UserError
from robustkit.base.names import ChannelOrder, OutputKind
from robustkit.functional.stats import finite

BATCH = 64
Bools = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]
NOTHING: Bools = np.zeros(0, dtype=bool)


@dataclass(frozen=True)
class Given:
    """What the user says of a model; None: to be found out. Fields as of :class:`Preprocessing`.

    ``reorder``: another order of classes is applied, where one is found.
    """

    normalize: str | None = None
    scale: float | None = None
    order: ChannelOrder | None = None
    size: tuple[int, int] | None = None
    outputs: OutputKind | None = None
    columns: tuple[int, ...] = ()
    reorder: bool = False


@dataclass(frozen=True)
class Trial:
    """One way to run the model, on n images: accuracy as it is, and under the best one-to-one renaming of classes.

    ``log_likelihood`` is the mean of the labels', in nats, so renamed where ``renamed`` says so, -inf where a label has
    none or an output is NaN; ``divergence`` that of the first batch norm. ``right`` (n,) is which images are classified
    right, as the trial is to be compared: under a renaming only if that is proven to gain over the data's order and
    over a constant answer (``renamed``).
    """

    normalize: str
    how: Preprocessing
    n: int
    accuracy: float
    renamed_accuracy: float
    log_likelihood: float
    renaming: tuple[int, ...]
    divergence: float | None = None
    right: Bools = field(default_factory=lambda: NOTHING, repr=False, compare=False)
    renamed: bool = False
    outputs: int = 0

    @property
    def label(self) -> str:
        """What it is called among the candidates."""
        pixels = f"{self.how.scale:g}" if self.normalize == "none" and self.how.scale != 1 else ""
        return " ".join(filter(None, (self.normalize, pixels and f"0..{pixels}", self.how.order.replace("rgb", ""))))

    @property
    def score(self) -> float:
        """The accuracy by which it is compared with others."""
        return float(self.right.mean())

    @property
    def plain(self) -> bool:
        """Whether it takes images as they are."""
        return self.normalize == "none" and self.how.scale == 1 and self.how.order == "rgb"

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {
            "normalize": self.normalize, "how": self.how.to_json(), "n": self.n, "accuracy": self.accuracy,
            "renamed_accuracy": self.renamed_accuracy, "log_likelihood": finite(self.log_likelihood),
            "divergence": None if self.divergence is None else finite(self.divergence),
        }  # fmt: skip


def ways(channels: int, size: tuple[int, int] | None, given: Given) -> Iterator[tuple[str, Preprocessing]]:
    """Yield the ways to run a network, plain pixels first: one, where the user says everything."""
    if given.normalize is None:
        known = {name: s for name, s in STATISTICS.items() if len(s[0]) in (1, channels)}
    else:
        known = {given.normalize: statistics(given.normalize, channels)}
    orders: tuple[ChannelOrder, ...] = (given.order,) if given.order else ("rgb", "bgr") if channels == 3 else ("rgb",)
    for (name, (mean, std)), order in itertools.product(known.items(), orders):
        for scale in (given.scale,) if given.scale else (1.0, 255.0) if name == "none" else (1.0,):
            backwards = order == "bgr"  # statistics are written down in the order red, green, blue
            yield (
                name,
                Preprocessing(
                    mean[::-1] if backwards else mean,
                    std[::-1] if backwards else std,
                    scale,
                    order,
                    channels,
                    size,
                    columns=given.columns,
                ),
            )


def statistics(text: str, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation by name, or read ``0.5,0.5,0.5/0.2,0.2,0.2``; else a :class:`UserError`."""
    if text in STATISTICS:
        return STATISTICS[text]
    try:
        mean, std = (tuple(float(v) for v in part.split(",")) for part in text.split("/"))
    except ValueError:
        mean, std = (), ()
    if len(mean) not in (1, channels) or len(std) != len(mean) or not all(v > 0 for v in std):
        raise UserError(
            f"normalize '{text}' is not known; write one of {', '.join(STATISTICS)}, or the means and deviations of "
            "the channels in [0, 1] like 0.5,0.5,0.5/0.2,0.2,0.2."
        )
    return mean, std


@torch.no_grad()
def trial(network: nn.Module, name: str, how: Preprocessing, x: Tensor, y: Tensor) -> Trial:
    """Run a network in one way on clean images x (N, C, H, W) in [0, 1] with labels y (N,).

    Raises
    ------
    UserError
        If it has fewer outputs than there are classes.
    """
    adapted = Adapted(network, replace(how, columns=())).to(x.device)
    raw = torch.cat([adapted(part) for part in torch.split(x, BATCH)]).cpu().double()
    kind, width = kind_of(raw), raw.shape[1]
    raw = raw[:, list(how.columns)] if how.columns else raw
    outputs, labels = raw.nan_to_num(0.0).numpy(), y.cpu().numpy()
    classes = int(labels.max()) + 1
    if outputs.shape[1] < classes:
        raise UserError(
            f"the model has {outputs.shape[1]} outputs, but the data has labels up to {classes - 1}; "
            "name the data that it was trained on with --dataset."
        )
    predicted = outputs.argmax(1)
    renaming = _renaming(labels, predicted, classes, outputs.shape[1])
    plain, unseen = predicted == labels, _unseen(labels, predicted, classes, outputs.shape[1])
    renamed = comparing.renames(unseen, plain, labels)
    log_p = np.log(outputs.clip(np.finfo(np.float32).tiny)) if kind == "probabilities" else raw.log_softmax(1).numpy()
    meant = renaming[labels] if renamed else labels
    likelihood = float(log_p[np.arange(len(x)), meant].mean())
    return Trial(
        name, how, len(x), float(plain.mean()), float((predicted == renaming[labels]).mean()),
        -math.inf if math.isnan(likelihood) else likelihood, tuple(int(v) for v in renaming),
        right=unseen if renamed else plain, renamed=renamed, outputs=width,
    )  # fmt: skip


def _renaming(labels: Numbers, predicted: Numbers, classes: int, outputs: int) -> Numbers:
    """Return the one-to-one renaming (classes,) that makes most predictions right; of equally good ones, the least."""
    counts = np.zeros((classes, outputs))
    np.add.at(counts, (labels, predicted), 1)
    counts[np.arange(classes), np.arange(classes)] += 0.5 / classes  # all together less than one image
    found: Numbers = linear_sum_assignment(-counts)[1]
    return found


def _unseen(labels: Numbers, predicted: Numbers, classes: int, outputs: int) -> Bools:
    """Return which images (N,) are right under the renaming that the other half of them asks for.

    A renaming that is fitted to few images makes many of these right whatever the model does; to others it does not.
    """
    order = np.argsort(labels, kind="stable")
    half = np.zeros(len(labels), dtype=bool)
    half[order[::2]] = True  # every second image of each class
    right = np.zeros(len(labels), dtype=bool)
    for one, other in ((half, ~half), (~half, half)):
        renaming = _renaming(labels[other], predicted[other], classes, outputs)
        right[one] = predicted[one] == renaming[labels[one]]
    return right

"""What a file does not say of its model, found by trying it on clean labelled images, with the evidence."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from robustkit.auditing.adapting import STATISTICS, Adapted, Preprocessing
from robustkit.auditing.behaviour import Finding, How, behaviour, kind_of
from robustkit.auditing.fingerprint import APART, KNOWN, divergence
from robustkit.auditing.in_memory import CallError
from robustkit.base.errors import UserError
from robustkit.base.names import ChannelOrder, OutputKind
from robustkit.functional.stats import finite

FIRST = 128  # images on which everything is tried ...
CROPPED = 512  # on which the first batch norm is asked
MOST = 512  # ... and on which what is left is told apart
NEAR = 0.06  # accuracy by which a trial on the first images may be below the best and stay; on all, a third of it
SURE = 0.5  # accuracy from which on no other input size is tried
FEW, QUICK = 32, ("imagenet", "half", "none")  # images and normalisations of a first look at another size ...
CLEAR = 0.2  # ... which is tried in every way where that is so much more accurate
SIZES = (224, 32, 28, 64, 96, 128, 256, 299, 384)  # pixels, in turn, where the images' own size does not work
BATCH = 64


@dataclass(frozen=True)
class Given:
    """What the user says of a model; None: to be found out. Fields as of :class:`Preprocessing`."""

    normalize: str | None = None
    scale: float | None = None
    order: ChannelOrder | None = None
    size: tuple[int, int] | None = None
    outputs: OutputKind | None = None


@dataclass(frozen=True)
class Trial:
    """One way to run the model, on n images: accuracy as it is, and under the best one-to-one renaming of classes.

    ``log_likelihood`` is the mean of the labels', so renamed, in nats, -inf where a label has none or an output is NaN;
    ``divergence`` that of the first batch norm.
    """

    normalize: str
    how: Preprocessing
    n: int
    accuracy: float
    renamed_accuracy: float
    log_likelihood: float
    renaming: tuple[int, ...]
    divergence: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {
            "normalize": self.normalize, "how": self.how.to_json(), "n": self.n, "accuracy": self.accuracy,
            "renamed_accuracy": self.renamed_accuracy, "log_likelihood": finite(self.log_likelihood),
            "divergence": None if self.divergence is None else finite(self.divergence),
        }  # fmt: skip


@dataclass(frozen=True)
class Detected:
    """How a model is to be run, what that rests on, and every trial, the best first.

    ``renaming[l]`` is the output that stands for label l where the classes seem to be in another order; else None.
    It is reported, never applied.
    """

    how: Preprocessing
    findings: tuple[Finding, ...]
    trials: tuple[Trial, ...]
    renaming: tuple[int, ...] | None


def detect(network: nn.Module, x: Tensor, y: Tensor, given: Given | None = None) -> Detected:
    """Find out how a network is to be run, by its accuracy and likelihood on clean images.

    Every normalisation that training code is known to use, both orders of channels and both ranges of pixels are tried
    on the first 128 images; those within six points of the best accuracy then on up to 512. Of these, whose
    accuracies may hardly differ (ImageNet's statistics and CIFAR's), the one is taken under which the images look to
    the first batch norm like those that it was trained on (:mod:`robustkit.auditing.fingerprint`), else the one of the
    highest likelihood. Accuracy is that under the best renaming of classes, so that another order of classes is not
    taken for another normalisation.

    Parameters
    ----------
    network : nn.Module
        Returns logits, log-probabilities or probabilities (B, L); put into eval mode here.
    x, y : Tensor
        Clean images (N, C, H, W) in [0, 1] and their labels (N,), on the network's device.

    Raises
    ------
    UserError
        If the network cannot be run on such images in any way that was tried, or has fewer outputs than classes.
    """
    given = given or Given()
    network.eval()
    channels = input_channels(network) or x.shape[1]
    trials = _at_a_size(network, channels, x[:FIRST], y[:FIRST], given)
    ranked = _told_apart(network, trials, x[:MOST], y[:MOST])
    return _conclusion(network, ranked, x, y, given)


def _at_a_size(network: nn.Module, channels: int, x: Tensor, y: Tensor, given: Given) -> list[Trial]:
    """Return every way to run the network at the images' own size, or at another where that fails or does badly."""
    wanted = [given.size] if given.size else [None, *((side, side) for side in SIZES if side not in x.shape[2:])]
    trials: list[Trial] = []
    failure = ""
    for size in wanted:
        ways = list(_ways(channels, size, given))
        few = [(name, how) for name, how in ways if name in QUICK and how.order == "rgb"] or ways
        try:
            if trials:  # a look, since large images take a hundred times as long
                look = max(_trial(network, name, how, x[:FEW], y[:FEW]).accuracy for name, how in few)
                if look < max(t.accuracy for t in trials) + CLEAR:
                    return trials
            trials += [_trial(network, name, how, x, y) for name, how in ways]
        except Exception as error:  # noqa: BLE001 - a stranger's module may raise anything
            if isinstance(error, UserError) and not isinstance(error, CallError):
                raise
            cause = error.__cause__ or error if isinstance(error, CallError) else error
            failure = failure or f"{type(cause).__name__}: {' '.join(str(cause).split())[:200]}"
            continue
        if size is not None or max(t.renamed_accuracy for t in trials) >= SURE:
            return trials
    if trials:
        return trials
    raise UserError(
        f"the model cannot be run on images of {x.shape[1]}x{x.shape[2]}x{x.shape[3]} ({failure}); "
        "name the size that it takes with --input-size, or give another --arch."
    )


def input_channels(network: nn.Module) -> int | None:
    """Return how many channels the first convolution takes; None where there is none to be seen."""
    first = next((m for m in network.modules() if isinstance(m, nn.Conv2d)), None)
    return None if first is None else first.in_channels


def _ways(channels: int, size: tuple[int, int] | None, given: Given) -> Iterator[tuple[str, Preprocessing]]:
    """Yield the ways to run a network: one, where the user says everything."""
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
                    mean[::-1] if backwards else mean, std[::-1] if backwards else std, scale, order, channels, size
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
def _trial(network: nn.Module, name: str, how: Preprocessing, x: Tensor, y: Tensor) -> Trial:
    adapted = Adapted(network, how).to(x.device)
    raw = torch.cat([adapted(part) for part in torch.split(x, BATCH)]).cpu().double()
    outputs, labels = raw.nan_to_num(0.0).numpy(), y.cpu().numpy()
    classes = int(labels.max()) + 1
    if outputs.shape[1] < classes:
        raise UserError(
            f"the model has {outputs.shape[1]} outputs, but the data has labels up to {classes - 1}; "
            "name the data that it was trained on with --dataset."
        )
    predicted = outputs.argmax(1)
    counts = np.zeros((classes, outputs.shape[1]))
    np.add.at(counts, (labels, predicted), 1)
    _, renaming = linear_sum_assignment(-counts)
    log_p = np.log(outputs.clip(1e-12)) if kind_of(raw) == "probabilities" else raw.log_softmax(1).numpy()
    likelihood = float(log_p[np.arange(len(x)), renaming[labels]].mean())
    return Trial(
        name, how, len(x), float((predicted == labels).mean()), float((predicted == renaming[labels]).mean()),
        -math.inf if math.isnan(likelihood) else likelihood, tuple(int(v) for v in renaming),
    )  # fmt: skip


def _told_apart(network: nn.Module, trials: list[Trial], x: Tensor, y: Tensor) -> list[Trial]:
    """Return the trials, the best first; those near the best by the likelihood of more images."""
    best = max(t.renamed_accuracy for t in trials)
    near = [t for t in trials if t.renamed_accuracy >= best - NEAR]
    more = [_trial(network, t.normalize, t.how, x, y) if len(x) > t.n else t for t in near]
    more = [replace(t, divergence=divergence(network, t.how, x[:CROPPED])) for t in more]
    left = max(t.renamed_accuracy for t in more) - NEAR / 3
    more.sort(key=lambda t: (t.accuracy >= left, t.renamed_accuracy >= left, t.log_likelihood), reverse=True)
    if known := _remembered(more):
        more.sort(key=lambda t: t is not known)
    rest = [t for t in trials if t.renamed_accuracy < best - NEAR]
    return more + sorted(rest, key=lambda t: t.renamed_accuracy, reverse=True)


def _remembered(trials: list[Trial]) -> Trial | None:
    """Return the trial that the first batch norm knows, where it knows one and no other half as well."""
    ranked = sorted((t for t in trials if t.divergence is not None), key=lambda t: t.divergence or 0.0)
    if not ranked or (ranked[0].divergence or 0.0) > KNOWN:
        return None
    others = [t for t in ranked[1:] if t.how != ranked[0].how]
    clear = not others or (others[0].divergence or 0.0) > APART * (ranked[0].divergence or 0.0)
    return ranked[0] if clear else None


def _conclusion(network: nn.Module, ranked: list[Trial], x: Tensor, y: Tensor, given: Given) -> Detected:
    best = ranked[0]
    with torch.no_grad():
        raw = Adapted(network, best.how).to(x.device)(x[:BATCH]).cpu().double()
    how = replace(best.how, outputs=given.outputs or kind_of(raw))
    told: How = "given" if given.outputs else "detected"
    findings = [
        *_of_input(best, ranked, x, given),
        Finding("outputs", how.outputs, told, f"rows of the first {len(raw)} images"),
        *behaviour(network, Adapted(network, how).to(x.device), x[:BATCH]),
    ]
    renaming = _renaming(best, len(y))
    if renaming:
        text = f"accuracy is {best.accuracy:.3f} as it is and {best.renamed_accuracy:.3f} under a renaming"
        findings.append(Finding("class order", "not the data's", "detected", f"{text}; nothing was renamed", True))
    return Detected(how, tuple(findings), tuple(ranked), renaming)


def _of_input(best: Trial, ranked: list[Trial], x: Tensor, given: Given) -> Iterator[Finding]:
    """Yield what is known of normalisation, range, order of channels, channels and size."""
    guess = 1 / len(best.renaming)
    low = best.renamed_accuracy < min(0.5, 3 * guess)
    also = [t for t in ranked[1:] if t.n == best.n and t.renamed_accuracy >= best.renamed_accuracy - NEAR / 3]
    others = sorted({f"{t.normalize} {t.renamed_accuracy:.3f}" for t in also if t.normalize != best.normalize})
    worst = min(ranked, key=lambda t: t.renamed_accuracy)
    text = f"accuracy {best.renamed_accuracy:.3f} on {best.n} clean images, log-likelihood {best.log_likelihood:.3f}"
    if best.divergence is not None and best.divergence <= KNOWN:
        text += f"; the first batch norm was trained on such pixels (divergence {best.divergence:.4f} nats)"
    text += f"; worst of {len(ranked)} ways: {worst.normalize} {worst.renamed_accuracy:.3f}"
    text += f"; nearly as accurate: {', '.join(others)}" if others else ""
    yield Finding("normalisation", best.normalize, "given" if given.normalize else "detected", text, low)
    pixels = "0..255" if best.how.scale == 255 or best.normalize == "caffe" else "0..1"
    yield Finding("pixel range", pixels, "given" if given.scale else "detected", "the best way to run it, see above")
    if best.how.channels == 3:
        turned = [t for t in ranked if t.normalize == best.normalize and t.how.order != best.how.order]
        evidence = f"the other order: {max(t.renamed_accuracy for t in turned):.3f}" if turned else "not tried"
        yield Finding("channel order", best.how.order, "given" if given.order else "detected", evidence)
    if best.how.channels != x.shape[1]:
        made = "turned to grey" if best.how.channels == 1 else "repeated in every channel"
        yield Finding(
            "channels", str(best.how.channels), "detected", f"the data has {x.shape[1]}: images are {made}", True
        )
    height, width = best.how.size or tuple(x.shape[2:])
    evidence = "as the data is" if best.how.size is None else f"the data is {x.shape[2]}x{x.shape[3]}: it is resized"
    yield Finding("input size", f"{height}x{width}", "given" if given.size else "detected", evidence)


def _renaming(best: Trial, n: int) -> tuple[int, ...] | None:
    """Return the order of classes where one other than the data's explains clearly more than chance would."""
    gained = best.renamed_accuracy - best.accuracy
    clear = gained > max(0.05, 3 * (best.renamed_accuracy * (1 - best.renamed_accuracy) / best.n) ** 0.5)
    return best.renaming if clear and best.renamed_accuracy > 2 / len(best.renaming) and n >= 50 else None

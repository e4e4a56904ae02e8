"""What a file does not say of its model, found by trying it on clean labelled images, with the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from robustkit.auditing import _candidates, _findings, _outputs, comparing
from robustkit.auditing.adapting import Adapted, Preprocessing
from robustkit.auditing.behaviour import Finding, behaviour, kind_of
from robustkit.auditing.fingerprint import APART, KNOWN, divergence
from robustkit.auditing.in_memory import CallError
from robustkit.auditing.trials import BATCH, Given, Trial, trial, ways
from robustkit.base.errors import UserError

FIRST = 128  # images on which everything is tried ...
CROPPED = 512  # on which the first batch norm is asked
MOST = 512  # ... and on which what is left is told apart
NEAR = 0.06  # accuracy by which a trial on the first images may be below the best and stay; on all, a third of it
SURE = 0.5  # accuracy from which on no other input size is tried
FEW, QUICK = 32, ("imagenet", "half", "none")  # images and normalisations of a first look at another size ...
CLEAR = 0.2  # ... which is tried in every way where that is so much more accurate
SIZES = (224, 32, 28, 64, 96, 128, 256, 299, 384)  # pixels, in turn, where the images' own size does not work


@dataclass(frozen=True)
class Detected:
    """How a model is to be run, what that rests on, and every trial, the best first.

    ``renaming[l]`` is the output that stands for label l where the classes seem to be in another order; else None.
    It is reported, and applied where that is asked for. ``candidates`` are the trials that nothing refutes, the
    likeliest first: one, where the way to run it is proven, given or assumed. ``at_chance``: a constant answer is right
    on as many images, though there are enough of them to show more.
    """

    how: Preprocessing
    findings: tuple[Finding, ...]
    trials: tuple[Trial, ...]
    renaming: tuple[int, ...] | None
    candidates: tuple[Trial, ...] = ()
    at_chance: bool = False


def detect(
    network: nn.Module, x: Tensor, y: Tensor, given: Given | None = None, classes: Sequence[str] = ()
) -> Detected:
    """Find out how a network is to be run, by its accuracy and likelihood on clean images.

    Every normalisation that training code is known to use, both orders of channels and both ranges of pixels are tried
    on the first 128 images; those within six points of the best accuracy, and those that so few images cannot refute,
    then on up to 512. Of these, whose accuracies may hardly differ (ImageNet's statistics and CIFAR's), the one is
    taken under which the images look to the first batch norm like those that it was trained on
    (:mod:`robustkit.auditing.fingerprint`). Else every one is a candidate that is not clearly less accurate than the
    best (:mod:`robustkit.auditing._candidates`), and the one of the highest likelihood comes first.

    Accuracy is that under a renaming of classes where one is proven, so that another order of classes is not taken for
    another normalisation; and of images that mostly share a label, as many are left out as it takes for a constant
    answer to be right on half. Where nothing is proven to be better than a constant answer, plain pixels are assumed,
    and that is a concern.

    Parameters
    ----------
    network : nn.Module
        Returns logits, log-probabilities or probabilities (B, L); put into eval mode here.
    x, y : Tensor
        Clean images (N, C, H, W) in [0, 1] and their labels (N,), on the network's device.
    classes : sequence of str
        The classes of the data, by whose number the logits are told from other outputs; by default as labels say.

    Raises
    ------
    UserError
        If the network cannot be run on such images in any way that was tried, or has fewer outputs than classes.
    """
    given = given or Given()
    network.eval()
    rows = comparing.telling(y[:MOST]).to(x.device)
    one_label = not len(rows)
    x, y = (x[:MOST], y[:MOST]) if one_label else (x[rows], y[rows])
    channels = input_channels(network) or x.shape[1]
    number = len(classes) or int(y.max()) + 1
    trials = _at_a_size(network, channels, x[:FIRST], y[:FIRST], given, number, SURE if not one_label else 0.0)
    trials, output = _outputs.settled(network, trials, x, y)
    ranked, candidates = _told_apart(network, trials, x, y, given)
    return _conclusion(network, ranked, candidates, x, y, given, classes, output)


def taken(
    found: Detected, chosen: Trial, why: str, network: nn.Module, x: Tensor, y: Tensor, given: Given | None = None,
    classes: Sequence[str] = (),
) -> Detected:  # fmt: skip
    """Return what was detected with one of its candidates taken rather than the first; ``why`` is said of it."""
    rows = comparing.telling(y[:MOST]).to(x.device)
    ranked = [chosen, *(t for t in found.trials if t is not chosen)]
    output = next((finding for finding in found.findings if finding.what == _outputs.WHAT), None)
    return _conclusion(
        network, ranked, list(found.candidates), x[rows], y[rows], given or Given(), classes, output, why
    )


def _at_a_size(
    network: nn.Module, channels: int, x: Tensor, y: Tensor, given: Given, classes: int, sure: float
) -> list[Trial]:
    """Return every way to run the network at the images' own size, or at another where that fails or does badly."""
    wanted = [given.size] if given.size else [None, *((side, side) for side in SIZES if side not in x.shape[2:])]
    trials: list[Trial] = []
    failure = ""
    for size in wanted:
        every = list(ways(channels, size, given))
        try:
            every = _outputs.with_outputs(network, every, x, y, classes)
            few = [(name, how) for name, how in every if name in QUICK and how.order == "rgb"] or every
            if trials:  # a look, since large images take a hundred times as long
                look = max(trial(network, name, how, x[:FEW], y[:FEW]).score for name, how in few)
                if look < max(t.score for t in trials) + CLEAR:
                    return trials
            trials += [trial(network, name, how, x, y) for name, how in every]
        except Exception as error:  # noqa: BLE001 - a stranger's module may raise anything
            if isinstance(error, UserError) and not isinstance(error, CallError):
                raise
            cause = error.__cause__ or error if isinstance(error, CallError) else error
            failure = failure or f"{type(cause).__name__}: {' '.join(str(cause).split())[:200]}"
            continue
        if size is not None or max(t.score for t in trials) >= sure:
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


def _told_apart(
    network: nn.Module, trials: list[Trial], x: Tensor, y: Tensor, given: Given
) -> tuple[list[Trial], list[Trial]]:
    """Return the trials, the best first, and those that are candidates; near ones are told apart by more images."""
    best = max(trials, key=lambda t: t.score)
    level = comparing.LEVEL / len(trials)
    near = [t for t in trials if t.score >= best.score - NEAR or _candidates.stands(t, best, level)]
    near = [replace(t, divergence=divergence(network, t.how, x[:CROPPED])) for t in near]
    known = _remembered(near)
    if len(known) == 1:  # the batch norm decides: more images are for the report
        near = [t for t in near if t.score >= best.score - NEAR or t is known[0]]
    more = [_again(network, t, x, y) if len(x) > t.n else t for t in near]
    left = max(t.score for t in more) - NEAR / 3
    more.sort(key=lambda t: (t.score >= left and not t.renamed, t.score >= left, t.log_likelihood), reverse=True)
    tried = [(t.normalize, t.how) for t in more]
    rest = [t for t in trials if (t.normalize, t.how) not in tried]
    ranked = more + sorted(rest, key=lambda t: t.score, reverse=True)
    known = _remembered(more)
    told = bool(known) or comparing.gains(max(more, key=lambda t: t.score).right, y.cpu().numpy(), len(trials))
    if not told:
        ranked.sort(key=lambda t: not t.plain)
        candidates = ranked[:1]
    elif len(known) == 1:
        candidates = known
    elif given.normalize:
        candidates = _candidates.usual(more, level)[:1] or ranked[:1]
    else:
        candidates = _candidates.unrefuted(network, more, level, x, y)
        candidates = [t for t in candidates if t in known] or candidates
    ranked.sort(key=lambda t: t not in candidates)
    return ranked, candidates


def _again(network: nn.Module, one: Trial, x: Tensor, y: Tensor) -> Trial:
    """Return a trial of the same way on other images, with what the batch norm said of it."""
    return replace(trial(network, one.normalize, one.how, x, y), divergence=one.divergence)


def _remembered(trials: list[Trial]) -> list[Trial]:
    """Return the trials that the first batch norm knows, the nearest first; one, where it knows no other half as well.

    None where it knows none.
    """
    ranked = sorted((t for t in trials if t.divergence is not None), key=lambda t: t.divergence or 0.0)
    if not ranked or (ranked[0].divergence or 0.0) > KNOWN:
        return []
    return [t for t in ranked if (t.divergence or 0.0) <= APART * (ranked[0].divergence or 0.0)]


def _conclusion(
    network: nn.Module, ranked: list[Trial], candidates: list[Trial], x: Tensor, y: Tensor, given: Given,
    classes: Sequence[str], output: Finding | None, why: str = "",
) -> Detected:  # fmt: skip
    best = ranked[0]
    with torch.no_grad():
        raw = Adapted(network, replace(best.how, columns=())).to(x.device)(x[:BATCH]).cpu().double()
    order, said = _findings.class_order(best, y, given, classes)
    how = replace(best.how, outputs=given.outputs or kind_of(raw), columns=order)
    findings = [
        *([output] if output else []),
        *_findings.of_input(ranked, candidates, x, y, given, why or _candidates.scaled(network, candidates, x, y)),
        Finding(
            "outputs", how.outputs, "given" if given.outputs else "detected", f"rows of the first {len(raw)} images"
        ),
        *behaviour(network, Adapted(network, how).to(x.device), x[:BATCH]),
        *([said] if said else []),
    ]
    renaming = best.renaming if best.renamed else None
    at_chance = comparing.at_chance(best.right, y.cpu().numpy(), len(ranked))
    return Detected(how, tuple(findings), tuple(ranked), renaming, tuple(candidates), at_chance)

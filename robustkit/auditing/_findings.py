"""What is said of how a model takes images: normalisation, range, order of channels, channels, size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from robustkit.auditing import class_order as orders
from robustkit.auditing import comparing
from robustkit.auditing.behaviour import Finding, How
from robustkit.auditing.fingerprint import KNOWN
from robustkit.auditing.trials import Given, Trial

WHAT = "class order"
NAME = "name the right one by --normalize"
CLOSE = 0.02  # accuracy by which another way is nearly as good


def of_input(
    ranked: Sequence[Trial], candidates: Sequence[Trial], x: Tensor, y: Tensor, given: Given, why: str = ""
) -> Iterator[Finding]:
    """Yield the findings, given every trial, the one that was taken first, and the images and labels it is judged by.

    Where the labels cannot tell a model from a constant answer, and the first batch norm does not know the pixels, what
    nobody said is assumed, and a reason to doubt; so it is where several candidates are left (``why`` is said of
    these), or one that is right on too few images to be the way that the model was trained in for that reason.
    """
    best, labels = ranked[0], y.cpu().numpy()
    known = best.divergence is not None and best.divergence <= KNOWN
    # Of several candidates the one that is taken need not be the most accurate: that one tells whether labels tell.
    most = max((best, *candidates), key=lambda t: t.score)
    told = known or comparing.gains(most.right, labels, len(ranked))
    learnt = known or len(ranked) < 2 or comparing.learnt(most.right, labels)
    sure = told and len(candidates) < 2 and learnt
    way: How = "detected" if sure else "assumed"
    low = best.score < min(0.5, 3 / len(best.renaming))
    text = _evidence(best, ranked, known, len(candidates) < 2)
    if not told:
        text = f"the labels cannot tell, {_reason(labels)}: plain pixels are assumed, name them by --normalize; {text}"
    elif len(candidates) < 2 and not learnt:
        text = f"a model that is right on so few may do better on images that it was not trained on: {NAME}; {text}"
    elif not sure:
        text = f"{_unproven(best, candidates)}; {why}; {text}"
    if given.normalize:
        yield Finding("normalisation", best.normalize, "given", text, low)
    else:
        yield Finding("normalisation", best.normalize, way, text, low or not sure)
    pixels = "0..255" if best.how.scale == 255 or best.normalize == "caffe" else "0..1"
    yield Finding("pixel range", pixels, "given" if given.scale else way, "the best way to run it, see above")
    if best.how.channels == 3:
        turned = [t for t in ranked if t.normalize == best.normalize and t.how.order != best.how.order]
        evidence = f"the other order: {max(t.score for t in turned):.3f}" if turned else "not tried"
        yield Finding("channel order", best.how.order, "given" if given.order else way, evidence)
    if best.how.channels != x.shape[1]:
        made = "turned to grey" if best.how.channels == 1 else "repeated in every channel"
        yield Finding(
            "channels", str(best.how.channels), "detected", f"the data has {x.shape[1]}: images are {made}", True
        )
    height, width = best.how.size or tuple(x.shape[2:])
    evidence = "as the data is" if best.how.size is None else f"the data is {x.shape[2]}x{x.shape[3]}: it is resized"
    yield Finding("input size", f"{height}x{width}", "given" if given.size else "detected", evidence)


def _evidence(best: Trial, ranked: Sequence[Trial], known: bool, alone: bool) -> str:
    """Return what speaks for the way that was taken, and how the others did."""
    also = [t for t in ranked[1:] if t.n == best.n and t.score >= best.score - CLOSE]
    others = sorted({f"{t.normalize} {t.score:.3f}" for t in also if t.normalize != best.normalize})
    worst = min(ranked, key=lambda t: t.score)
    text = f"accuracy {best.score:.3f} on {best.n} clean images, log-likelihood {best.log_likelihood:.3f}"
    if known:
        text += f"; the first batch norm was trained on such pixels (divergence {best.divergence:.4f} nats)"
    if len(ranked) > 1:
        text += f"; worst of {len(ranked)} ways: {worst.normalize} {worst.score:.3f}"
    return text + (f"; nearly as accurate: {', '.join(others)}" if others and alone else "")


def _unproven(best: Trial, candidates: Sequence[Trial]) -> str:
    """Return that accuracy does not prove the way that was taken, and what else it may be."""
    others = ", ".join(f"{t.label} ({t.score:.3f})" for t in candidates if t is not best)
    return f"{best.n} clean images do not refute {others} beside it: {NAME}"


def _reason(labels: comparing.Labels) -> str:
    """Return why labels tell nothing of a model."""
    if len(np.unique(labels)) == 1:
        return f"all {len(labels)} are {labels[0]}"
    return f"no way to run it is clearly right on more of {len(labels)} images than a constant answer"


def class_order(best: Trial, y: Tensor, given: Given, classes: Sequence[str]) -> tuple[tuple[int, ...], Finding | None]:
    """Return the output of each class, empty where they are in the data's order, and what is said of that.

    An order that is found is applied where ``given`` says so, and else reported with its likely cause.
    """
    applied = best.how.columns
    if best.renamed:
        text = f"accuracy is {best.accuracy:.3f} as it is and {best.renamed_accuracy:.3f} under a renaming"
        why = orders.cause(best.renaming, y.tolist(), classes)
        text += f": {why}" if why else ""
        if given.reorder:
            applied = orders.whole(best.renaming, len(classes) or len(best.renaming), best.outputs)
            return applied, Finding(WHAT, "renamed", "detected", f"{text}; applied, as --class-order auto asks")
        text += "; nothing was renamed, --class-order auto does it"
        return applied, Finding(WHAT, "not the data's", "detected", text, True)
    if applied:
        return applied, Finding(WHAT, "as given", "given", f"accuracy {best.accuracy:.3f} under it")
    if given.reorder:
        return applied, Finding(WHAT, "the data's", "detected", "no renaming is proven; nothing was renamed")
    return applied, None

"""Ways to run a model that clean images cannot refute.

The most accurate way need not be the one that the model was trained in: networks that were trained to resist attacks
are often more accurate on images of more contrast than they have ever seen. So another way is refuted only where a
paired test proves that it is right on fewer images, among as many comparisons as were made, and where a change of
contrast alone does not undo that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from robustkit.auditing import comparing
from robustkit.auditing.trials import Trial, trial

STRETCHED = (0.8, 1.25)  # times the contrast of the likeliest way, for the report


def stands(one: Trial, best: Trial, level: float) -> bool:
    """Return whether the same images do not refute a way beside the best; nothing does that differs in contrast."""
    unproven = comparing.better(best.right, one.right) >= level
    return unproven or comparing.differ_in_contrast(one.how, best.how)


def unrefuted(network: nn.Module, trials: Sequence[Trial], level: float, x: Tensor, y: Tensor) -> list[Trial]:
    """Return the trials, all on images x (N, C, H, W) with labels y (N,), that these do not refute, in their order.

    A trial is refuted by being less accurate than the best with p below ``level``, with its own contrast and, where
    that is near the best's, with the best's; and by answers that are less likely than those of a uniform guess, if the
    best's are not: no training ends there.
    """
    best = max(trials, key=lambda t: t.score)
    guess = -math.log(max(2, best.outputs))

    def stays(one: Trial) -> bool:
        if best.log_likelihood > guess >= one.log_likelihood:
            return False
        if comparing.better(best.right, one.right) >= level:
            return True
        if not comparing.differ_in_contrast(one.how, best.how):
            return False
        stretched = trial(network, one.normalize, comparing.with_contrast_of(one.how, best.how), x, y)
        return comparing.better(best.right, stretched.right) >= level

    return [one for one in trials if one is best or stays(one)]


def usual(trials: Sequence[Trial], level: float) -> list[Trial]:
    """Return the trials on pixels in [0, 1] in the order red, green, blue, unless the best is proven to do better.

    Whoever names the statistics and no more means that.
    """
    best = max(trials, key=lambda t: t.score)
    plain = [one for one in trials if one.how.scale == 1 and one.how.order == "rgb"]
    return [one for one in plain if comparing.better(best.right, one.right) >= level]


def scaled(network: nn.Module, candidates: Sequence[Trial], x: Tensor, y: Tensor) -> str:
    """Return what contrast alone does to the accuracy of the likeliest of several candidates, else nothing."""
    if len(candidates) < 2:
        return ""
    first = candidates[0]
    made = [
        trial(network, first.normalize, replace(first.how, scale=first.how.scale * by), x, y).score for by in STRETCHED
    ]
    return f"contrast alone, {STRETCHED[0]:g} and {STRETCHED[1]:g} times, gives {made[0]:.3f} and {made[1]:.3f}"

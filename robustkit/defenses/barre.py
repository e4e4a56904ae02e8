"""BARRE, boosting of randomised ensembles with optimal probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from robustkit import attacks
from robustkit.base.errors import UserError
from robustkit.defenses import defense
from robustkit.ensembles.ensemble import Ensemble
from robustkit.ensembles.fusion import Draw

ROUNDS, FIRST_STEP = 10, 2.0  # of the search for probabilities; step t is FIRST_STEP / t long
PARTS = 1000  # of which a probability is a number, as the authors round it
BATCH = 256  # images attacked at a time there


@defense(
    "barre",
    role="inputs",
    one_by_one=True,
    fusion="random",
    chances="probabilities",
    check="fits",
    source="Dbouk and Shanbhag 2023, arXiv:2302.01375, algorithms 1 and 2",
    paper="barre",
)
def barre(
    ensemble: Ensemble, x: Tensor, y: Tensor, *, eps: float = 0.0314, steps: int = 10, images: int = 512,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Boosted randomised ensemble: each member learns from attacks on a draw of those before it and itself.

    Members are trained one after another, each in its share of the epochs and from the weights of the one before, on
    PGD examples against log sum_m p_m softmax(z_m), p uniform over the members so far: ``steps`` of a quarter of the
    budget from a random start. Then the probabilities of fusion rule ``random`` are those of the lowest expected
    error that projected subgradient descent finds: p <- Proj_simplex(p - 2/t e(p)), e_m the error of member m on ARC
    examples against the ensemble drawn with p (algorithm 1); ``random:...`` names them.

    Deviations: cross-entropy alone, to which the authors' command adds a margin term over the wrong classes; the best
    iterate of PGD; probabilities are searched once, at the end, where the authors' code also does so during the
    training of the fourth member and later ones; ARC's step falls. With another fusion rule, or probabilities that
    are given (``random:0.5,0.3,0.2``), none are searched. The epochs are those of all members together; the one
    that is kept is one of the last member's.

    Parameters
    ----------
    eps : float
        Budget, Linf, in pixel units; about the paper's 8/255.
    steps : int
        Steps of PGD, and of ARC in the search for probabilities.
    images : int
        How many training images the probabilities are searched on; the paper's code has 2,048 of 50,000.
    """
    made: Tensor = attacks.attack.get("pgd")(
        ensemble, x, y, eps=eps, steps=steps, step_size=eps / 4, stop_early=False, generator=generator
    )
    return made, y


def probabilities(
    ensemble: Ensemble, x: Tensor, y: Tensor, *, eps: float, steps: int, images: int, generator: torch.Generator
) -> tuple[float, ...]:
    """Return the probabilities of the members of the lowest expected error under attack that are met (algorithm 1).

    Arguments as of :func:`barre`, with x (N, C, H, W) and y (N,) as many training images as there are, at most
    ``images``. On them and under this attack no worse than equal probabilities, where the search begins.
    """
    chances = torch.full((len(ensemble),), 1 / len(ensemble), dtype=torch.float64)
    best, least = chances, float("inf")
    for t in range(1, ROUNDS + 1):
        chances = rounded(chances)
        errors = errors_under_attack(ensemble, chances, x, y, eps, steps, generator)
        if (value := float(chances @ errors)) <= least:
            best, least = chances, value
        chances = onto_simplex(chances - FIRST_STEP / t * errors)
    return tuple(best.tolist())


def errors_under_attack(
    ensemble: Ensemble, chances: Tensor, x: Tensor, y: Tensor, eps: float, steps: int, generator: torch.Generator
) -> Tensor:
    """Return the share of images that each member gets wrong on ARC examples against a draw of them, float64 (M,)."""
    drawn = Ensemble(list(ensemble.members), Draw(tuple(chances.tolist()))).train(ensemble.training)
    wrong = torch.zeros(len(ensemble), dtype=torch.float64)
    for images, labels in zip(torch.split(x, BATCH), torch.split(y, BATCH), strict=True):
        found = attacks.attack.get("arc")(drawn, images, labels, eps=eps, steps=steps, targets=2, generator=generator)
        with torch.no_grad():
            wrong += (drawn.member_logits(found).argmax(2) != labels).sum(1).cpu()
    return wrong / len(y)


def onto_simplex(point: Tensor) -> Tensor:
    """Return the nearest probabilities to a point (M,): max(point - t, 0), t such that they sum to one."""
    ordered = point.sort(descending=True).values
    shifts = (ordered.cumsum(0) - 1) / torch.arange(1, len(point) + 1, dtype=point.dtype)
    return torch.clamp(point - shifts[ordered > shifts][-1], min=0)


def rounded(chances: Tensor) -> Tensor:
    """Return probabilities in thousandths that sum to one."""
    near = torch.round(chances * PARTS)
    near[near.argmax()] += PARTS - near.sum()
    return near / PARTS


def fits(params: Mapping[str, Any], members: int, classes: int) -> None:
    """Check that there is a budget to attack in."""
    if params["eps"] <= 0 or params["steps"] < 1 or params["images"] < 1:
        name = next(n for n in ("eps", "steps", "images") if params[n] <= 0)
        raise UserError(
            f"defense 'barre' with {name} {params[name]:g} trains on no attack; {name} must be above 0, like "
            "eps=0.0314, steps=10 and images=512."
        )

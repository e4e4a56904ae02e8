"""DVERGE, diversifying vulnerabilities by distilled non-robust features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from robustkit import attacks
from robustkit.base.errors import UserError
from robustkit.defenses import defense
from robustkit.defenses._distillation import distilled
from robustkit.ensembles.ensemble import Ensemble


@defense(
    "dverge",
    role="inputs",
    own_batches=True,
    members=2,
    check="fits",
    source="Yang et al. 2020, arXiv:2009.14720, eq. 3 to 5 and algorithm 1",
    paper="dverge",
)
def dverge(
    ensemble: Ensemble, x: Tensor, y: Tensor, *, eps: float = 0.07, steps: int = 10, adversarial: float = 0.0,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Diversified vulnerabilities: each member learns to see through what the features of the others mistake.

    Of each image another one is drawn from the batch, and for every member j an image is made within eps of the first
    whose features at a random layer of j are those of the other (distillation, eq. 3): ``steps`` of sign descent of
    eps / 10 with momentum. Member i is trained to give these images of all j other than i the label of the first
    (eq. 4). Deviations: one layer for each batch, where the paper draws one for each epoch; the sum over j is a mean;
    members move together, where algorithm 1 moves one after the other; they begin from random weights, where the
    paper's are trained already; the features are of batch norm in eval mode.

    Parameters
    ----------
    eps : float
        Budget of the distillation, in pixel units; the paper's 0.07.
    steps : int
        Steps of the distillation.
    adversarial : float
        Budget of adversarial training beside it (eq. 5): each member also learns from PGD examples of its own, ten
        steps of a quarter of the budget from a random start; 0: none. The paper's is 8/255.
    """
    members = list(ensemble.members)
    other = torch.randperm(len(y), generator=generator).to(x.device)
    depth = float(torch.rand((), generator=generator))
    made = [distilled(member, x, x[other], depth, eps, steps) for member in members]
    rows, labels = [], [y] * (len(members) - 1)
    for index in range(len(members)):
        own = [image for at, image in enumerate(made) if at != index]
        if adversarial:
            own.append(
                attacks.attack.get("pgd")(
                    ensemble.view(f"member-{index}"),
                    x,
                    y,
                    eps=adversarial,
                    steps=10,
                    step_size=adversarial / 4,
                    stop_early=False,
                    generator=generator,
                )  # fmt: skip
            )
        rows.append(torch.cat(own))
    labels = [*labels, y] if adversarial else labels
    return torch.stack(rows), torch.cat(labels).expand(len(members), -1)


def fits(params: Mapping[str, Any], members: int, classes: int) -> None:
    """Check that there are budgets to make images in."""
    if params["eps"] <= 0:
        raise UserError(
            f"defense 'dverge' distils within eps {params['eps']:g}, which must be above 0; the paper's is 0.07."
        )

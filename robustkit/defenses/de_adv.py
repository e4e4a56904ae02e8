"""Deep ensembles with adversarial training, as first published."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit.defenses import defense
from robustkit.defenses._adversarial import one_step
from robustkit.ensembles.ensemble import Ensemble


@defense(
    "de-adv",
    role="inputs",
    own_batches=True,
    source="Lakshminarayanan et al. 2017, arXiv:1612.01474, algorithm 1",
    paper="deep-ensembles",
)
def de_adv(
    ensemble: Ensemble, x: Tensor, y: Tensor, *, eps: float = 0.01, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Deep ensemble whose members also learn from FGSM examples, each from those against itself.

    The loss of member m is the mean of CE on x and on x + eps sign(grad_x CE_m), eps = 0.01 of the range. Deviation:
    all members see the images in one order; the paper shuffles for each member.
    """
    members = [ensemble.view(f"member-{index}") for index in range(len(ensemble))]
    made = [torch.cat([x, one_step(member, x, y, eps)]) for member in members]
    return torch.stack(made), torch.cat([y, y]).expand(len(made), -1)

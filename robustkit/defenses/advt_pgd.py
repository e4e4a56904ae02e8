"""AdvT-PGD, adversarial training on iterative examples."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit import attacks
from robustkit.defenses import defense
from robustkit.defenses._adversarial import half_and_half
from robustkit.defenses._adversarial import ordered as ordered
from robustkit.ensembles.ensemble import Ensemble


@defense(
    "advt-pgd", role="inputs", fresh=0.5, check="ordered", 
    source="Madry et al. 2018; ADP paper (arXiv:1901.08846), section 4.3",
    paper="adp-advt",
)  # fmt: skip
def advt_pgd(
    ensemble: Ensemble, x: Tensor, y: Tensor, *, low: float = 0.01, high: float = 0.05, steps: int = 10,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Adversarial training: half of each batch are PGD examples against the ensemble, of the other half's images.

    eps ~ U(low, high) for each batch, in pixel units; ``steps`` of eps / 10 from a random start. Deviation: the best
    iterate is kept, not the last. The examples are made with batch norm in eval mode, which the paper leaves open.
    """

    def craft(eps: float) -> Tensor:
        made: Tensor = attacks.attack.get("pgd")(
            ensemble, x, y, eps=eps, steps=steps, stop_early=False, generator=generator
        )
        return made

    return half_and_half(craft, x, y, low, high, generator)

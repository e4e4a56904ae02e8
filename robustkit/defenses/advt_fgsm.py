"""AdvT-FGSM, adversarial training on one-step examples."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit.defenses import defense
from robustkit.defenses._adversarial import half_and_half, one_step
from robustkit.defenses._adversarial import ordered as ordered
from robustkit.ensembles.ensemble import Ensemble


@defense(
    "advt-fgsm", role="inputs", fresh=0.5, check="ordered",
    source="Kurakin et al. 2017; ADP paper (arXiv:1901.08846), section 4.3",
    paper="adp-advt",
)  # fmt: skip
def advt_fgsm(
    ensemble: Ensemble, x: Tensor, y: Tensor, *, low: float = 0.01, high: float = 0.05, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Adversarial training: half of each batch are FGSM examples against the ensemble, of the other half's images.

    eps ~ U(low, high) for each batch, in pixel units. The examples are made with batch norm in eval mode, which the
    paper leaves open, and with the true labels.
    """
    return half_and_half(lambda eps: one_step(ensemble, x, y, eps), x, y, low, high, generator)

"""The plain deep ensemble, what every ensemble defence is compared with."""

from __future__ import annotations

from robustkit.defenses import Loss, Outputs, defense
from robustkit.defenses._terms import summed_cross_entropy
from robustkit.functional.precision import full


@defense(
    "baseline",
    source="ADP paper (arXiv:1901.08846), eq. 2; Lakshminarayanan et al. 2017",
    paper="adp",
)  # fmt: skip
def baseline(outputs: Outputs) -> Loss:
    """Deep ensemble: the sum of member cross-entropies, no interaction between members.

    L = sum_m CE(z_m, y), averaged over the batch. The same as training each member alone on the same batches.
    """
    ce = summed_cross_entropy(full(outputs.logits), outputs.y, outputs.smoothing)
    return Loss(ce, {"ce": ce.detach()})

"""NCL, negative correlation learning on probabilities."""

from __future__ import annotations

from robustkit.defenses import Loss, Outputs, defense
from robustkit.defenses._terms import mean_cross_entropy
from robustkit.functional.precision import full


@defense(
    "ncl",
    source="Liu and Yao 1999; Shui et al. 2018, arXiv:1802.07881; weight of the SDDE paper, arXiv:2305.11616",
    members=2,
    paper="sdde",
)  # fmt: skip
def ncl(outputs: Outputs, *, weight: float = 0.1) -> Loss:
    """Negative correlation learning: members' errors are pushed apart in the space of probabilities.

    L = mean_m CE_m + weight * mean over ordered pairs i != j of <d_i, d_j>, d_m = p_m - mean p, averaged over the
    batch: the correlation as the SDDE authors' code has it. As the d_m sum to 0, it is -sum_m |d_m|^2 / (M (M - 1)),
    and computed so; Liu and Yao's (F_i - F) sum_{j != i} (F_j - F), summed over members, is the same up to the
    factor. The code holds the mean constant ("following the original paper"); the gradient is the same.

    Deviation from the SDDE paper's comparison: members see the same batches.

    Parameters
    ----------
    weight : float
        Weight of the correlation; the SDDE paper's 0.1.
    """
    logits = full(outputs.logits)
    members = len(logits)
    probabilities = logits.softmax(2)
    apart = probabilities - probabilities.mean(0)
    ce = mean_cross_entropy(logits, outputs.y, outputs.smoothing)
    correlation = -(apart * apart).sum((0, 2)).mean() / (members * (members - 1))
    return Loss(ce + weight * correlation, {"ce": ce.detach(), "correlation": correlation.detach()})

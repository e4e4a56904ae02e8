"""GNCL, generalised negative correlation learning."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional

from robustkit.defenses import Loss, Outputs, defense
from robustkit.defenses._terms import mean_cross_entropy
from robustkit.ensembles.fusion import FUSIONS
from robustkit.functional.precision import full


@defense(
    "gncl",
    source="Buschjaeger et al. 2020, arXiv:2011.02952; design-diversity paper (Rosales et al. 2023), eq. 2",
    members=2,
    paper="design-diversity",
)  # fmt: skip
def gncl(
    outputs: Outputs, *, lam: float = 0.2,
    consensus: Literal["mean", "median", "geometric-mean", "majority"] = "mean", masked: bool = False,
) -> Loss:  # fmt: skip
    """Generalised negative correlation, exact: members may differ from the consensus where the loss is curved.

    L = mean_m CE_m - lam / (2M) sum_m d_m^T D d_m, averaged over the batch, d_m = z_m - f, f the consensus,
    D = diag(p) - p p^T with p = softmax(f): the second derivative of the cross-entropy at f. d^T D d is the variance
    of d under p, so no L x L matrix is made. Gradients go through f too. The recipe is the paper's for ImageNet (its
    ResNet-50 left out, as it fits no small images); it found that larger lam fail to learn.

    Parameters
    ----------
    lam : float
        Weight of the penalty; 0 is an ensemble trained independently.
    consensus : {"mean", "median", "geometric-mean", "majority"}
        f: mean of the logits, or that fusion rule's log-probabilities. The geometric mean of probabilities is the
        mean of logits but for a constant per sample, on which D d does not depend: both give the same loss. Votes
        have no gradient; theirs is that of the mean probability.
    masked : bool
        Leave out the penalty of a member where it is wrong.
    """
    logits = full(outputs.logits)
    fused = FUSIONS[consensus](logits) if consensus != "mean" else logits.mean(0)
    penalty = curvature(logits, fused)
    if masked:
        penalty = penalty * (logits.argmax(2) == outputs.y)
    ce = mean_cross_entropy(logits, outputs.y, outputs.smoothing)
    diversity = penalty.mean() / 2
    return Loss(ce - lam * diversity, {"ce": ce.detach(), "diversity": diversity.detach()})


def curvature(logits: Tensor, fused: Tensor) -> Tensor:
    """Return d^T (diag(p) - p p^T) d of d = z_m - f and p = softmax(f), (M, B), from (M, B, L) and (B, L).

    As sum(p (d - sum p d)^2), which cannot round to less than zero as sum(p d^2) - (sum p d)^2 does.
    """
    p = functional.softmax(fused, 1)
    apart = logits - fused
    centred = apart - (p * apart).sum(2, keepdim=True)
    return (p * centred * centred).sum(2)

"""ADP, adaptive diversity promoting training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robustkit.base.errors import UserError
from robustkit.defenses import Loss, Outputs, defense
from robustkit.defenses._terms import ensemble_entropy, log_ensemble_diversity, summed_cross_entropy
from robustkit.functional.precision import full


@defense(
    "adp",
    source="Pang et al. 2019, arXiv:1901.08846, eq. 5 and Algorithm 1",
    members=2,
    check="fits",
    paper="adp",
)  # fmt: skip
def adp(outputs: Outputs, *, alpha: float = 2.0, beta: float = 0.5, temperature: float = 1.0) -> Loss:
    """Adaptive diversity promoting: entropy of the fused prediction and mutually orthogonal wrong predictions.

    L = sum_m CE_m - alpha * H(F) - beta * log det(M^T M), F the mean member probability, M the member probabilities
    without the true class, L2-normalised. Deviation: 1e-6 I inside the determinant, as in the public code, which the
    paper's equation has not.

    Parameters
    ----------
    alpha, beta : float
        Weights of the two terms; the paper's ADP(2, 0.5), and ADP(2, 0) for the entropy alone.
    temperature : float
        Divides the logits in all terms of the loss, for data with many classes (paper, appendix B.2).
    """
    logits = full(outputs.logits) / temperature
    probabilities = logits.softmax(2)
    ce = summed_cross_entropy(logits, outputs.y, outputs.smoothing)
    entropy = ensemble_entropy(probabilities).mean()
    diversity = log_ensemble_diversity(probabilities, outputs.y).mean()
    parts = {"ce": ce.detach(), "entropy": entropy.detach(), "log_ed": diversity.detach()}
    return Loss(ce - alpha * entropy - beta * diversity, parts)


def fits(params: Mapping[str, Any], members: int, classes: int) -> None:
    """Check that so many predictions of the wrong classes can be orthogonal at all."""
    if params["beta"] > 0 and members > classes - 1:
        fewer = f"at most {classes - 1} members, or " if classes > 2 else ""  # one member has nothing to compare
        raise UserError(
            f"defense 'adp' with beta {params['beta']:g} cannot have {members} members on {classes} classes: more "
            f"predictions than the {classes - 1} wrong classes are linearly dependent and their determinant is 0; use "
            f"{fewer}--set adp.beta=0."
        )

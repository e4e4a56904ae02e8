"""ADP, adaptive diversity promoting training."""

from __future__ import annotations

from robustkit.defenses import Loss, Outputs, defense
from robustkit.defenses._terms import ensemble_entropy, log_ensemble_diversity, summed_cross_entropy


@defense("adp", source="Pang et al. 2019, arXiv:1901.08846, eq. 5 and Algorithm 1")
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
    logits = outputs.logits.float() / temperature
    probabilities = logits.softmax(2)
    ce = summed_cross_entropy(logits, outputs.y)
    entropy = ensemble_entropy(probabilities).mean()
    diversity = log_ensemble_diversity(probabilities, outputs.y).mean()
    parts = {"ce": ce.detach(), "entropy": entropy.detach(), "log_ed": diversity.detach()}
    return Loss(ce - alpha * entropy - beta * diversity, parts)

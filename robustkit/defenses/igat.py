"""IGAT, interactive global adversarial training."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit.defenses import Loss, Outputs, defense
from robustkit.defenses._terms import mean_cross_entropy
from robustkit.ensembles.fusion import mean_prob
from robustkit.functional.precision import full


@defense(
    "igat",
    source="Deng and Mu 2023, arXiv:2310.18477, section 4",
    members=2,
)
def igat(outputs: Outputs, *, alpha: float = 5.0, beta: float = 10.0, after: float = 0.5) -> Loss:
    """Interactive global adversarial training: what fools the ensemble goes to the member that is nearest to right.

    L = mean_m CE_m + alpha A + beta R, A and R means over the batch that are 0 where the mean probability is right.
    Both are for ensembles that are trained already: one of random weights is wrong nearly everywhere, and R alone holds
    it where all classes are as likely.
    A = sum_m q_m CE_m, q_m = 2^r / (2^M - 1), r the rank of member m by its probability of the true class, 0 for the
    lowest (the distributing rule). R = -sum_m log(1 - max_{k != y} p_mk): no member may be sure of its mistake.
    Meant for images made against the ensemble: ``igat+advt-pgd``. Weights are those of the authors' code.

    Deviations: A is the mean of the rule's draw of one member a sample; R without the clip of probabilities at 0.99,
    which leaves the surest mistakes without a gradient; the authors go on from trained ensembles of ADP, DVERGE and
    others, whose terms stand in place of the mean CE, where here one training has the mean CE alone until ``after``; it
    does not compose with DVERGE, whose images differ by member.

    Parameters
    ----------
    alpha, beta : float
        Weights of the distributed cross-entropy and of the surest mistakes.
    after : float
        How far the training is when they begin to count, from 0, in the first epoch, to 1, in the last. No epoch
        before is kept.
    """
    logits, y = full(outputs.logits), outputs.y
    mistaken = mean_prob(logits.detach()).argmax(1) != y
    own = logits.log_softmax(2).gather(2, y.expand(logits.shape[:2])[..., None]).squeeze(2)
    distributed = (-own * shares(own.detach()) * mistaken).sum(0).mean()
    sure = (surest_mistakes(logits, y) * mistaken).sum(0).mean()
    ce = mean_cross_entropy(logits, y, outputs.smoothing)
    parts = {"ce": ce.detach(), "distributed": distributed.detach(), "sure": sure.detach()}
    counts = outputs.trained >= after
    return Loss(ce + float(counts) * (alpha * distributed + beta * sure), parts, whole=counts)


def shares(confidence: Tensor) -> Tensor:
    """Return how likely a sample goes to each member, (M, B), from what grows with its probability of the true class.

    The ranks of (M, B) confidences along the members, as powers of two that sum to one.
    """
    ranks = confidence.argsort(0).argsort(0)
    powers = torch.pow(2, ranks).to(confidence.dtype)
    return powers / powers.sum(0)


def surest_mistakes(logits: Tensor, y: Tensor) -> Tensor:
    """Return -log(1 - p) of each member's largest probability p of a wrong class, (M, B), finite however sure it is."""
    labels = y.expand(logits.shape[:2])[..., None]
    worst = logits.detach().scatter(2, labels, -torch.inf).argmax(2, keepdim=True)
    return logits.logsumexp(2) - logits.scatter(2, worst, -torch.inf).logsumexp(2)

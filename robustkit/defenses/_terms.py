"""Terms that several defences and metrics need, on member logits (M, B, L)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def summed_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Return sum_m CE_m, averaged over the batch (ADP paper, eq. 2: the ECE loss); a scalar."""
    members, batch, classes = logits.shape
    return functional.cross_entropy(logits.reshape(-1, classes), y.repeat(members), reduction="sum") / batch


def ensemble_entropy(probabilities: Tensor) -> Tensor:
    """Return the Shannon entropy of the mean member probability, (B,), in nats."""
    mean = probabilities.mean(0)
    return -(mean * torch.log(mean + 1e-20)).sum(1)


def log_ensemble_diversity(probabilities: Tensor, y: Tensor) -> Tensor:
    """Return log det(M^T M) of the L2-normalised non-maximal predictions, (B,) (ADP paper, eq. 3).

    1e-6 I keeps the determinant positive where members agree, as the public code does.
    """
    members, batch, classes = probabilities.shape
    others = torch.arange(classes - 1, device=y.device).repeat(batch, 1)
    others = others + (others >= y[:, None])
    rest = probabilities.gather(2, others.expand(members, batch, classes - 1))
    # The norm's gradient at an all-zero row is NaN; the constant is far below any normalised prediction.
    rest = rest / torch.sqrt((rest * rest).sum(2, keepdim=True) + 1e-20)
    rows = rest.transpose(0, 1)
    gram = rows @ rows.transpose(1, 2) + 1e-6 * torch.eye(members, device=y.device, dtype=rows.dtype)
    return torch.logdet(gram)

"""Terms that several defences and metrics need, on member logits (M, B, L)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustkit.defenses import Batch, Outputs
from robustkit.functional.precision import exactly


def summed_cross_entropy(logits: Tensor, y: Tensor, smoothing: float) -> Tensor:
    """Return sum_m CE_m, averaged over the batch (ADP paper, eq. 2: the ECE loss); a scalar.

    Labels y are (B,), or (M, B) where each member has a batch of its own; ``smoothing`` is that of the labels.
    """
    return len(logits) * mean_cross_entropy(logits, y, smoothing)


def mean_cross_entropy(logits: Tensor, y: Tensor, smoothing: float) -> Tensor:
    """Return the mean of CE_m over members and batch; a scalar. Arguments as of :func:`summed_cross_entropy`."""
    labels = y.expand(logits.shape[:2]).reshape(-1)
    return functional.cross_entropy(logits.reshape(-1, logits.shape[2]), labels, label_smoothing=smoothing)


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
    rest = rest / safe_norm(rest)
    rows = rest.transpose(0, 1)
    with exactly(rows.device):  # TF32 keeps 3 digits of cosines near 1: a determinant needs more
        gram = rows @ rows.transpose(1, 2) + 1e-6 * torch.eye(members, device=y.device, dtype=rows.dtype)
        return torch.logdet(gram)


def safe_norm(rows: Tensor) -> Tensor:
    """Return the L2 norm over the last axis, kept; the gradient at zero is zero, where that of a norm is NaN."""
    return torch.sqrt((rows * rows).sum(-1, keepdim=True) + 1e-20)


def pair_cosine(maps: Tensor) -> Tensor:
    """Return the mean cosine between the maps of two members, over all pairs and samples; maps are (M, B, ...)."""
    return pair_cosines(maps).mean()


def pair_cosines(maps: Tensor) -> Tensor:
    """Return the cosine between the maps of each two members, (B, pairs), from (M, B, ...)."""
    rows = maps.flatten(2).transpose(0, 1)
    rows = rows / (safe_norm(rows) + 1e-6)
    first, second = torch.triu_indices(len(maps), len(maps), 1, device=maps.device)
    return (rows @ rows.transpose(1, 2))[:, first, second]


def scale_free(maps: Tensor) -> Tensor:
    """Return maps (M, B, ...) with a largest value of one, so that no offset of a norm weighs against small ones.

    Gradients of the loss of a sample that a member is sure of are far below 1e-6. The scale has no gradient: whatever
    is made of the maps must not depend on it.
    """
    largest = maps.detach().flatten(2).abs().amax(2).clamp_min(torch.finfo(maps.dtype).tiny)
    return maps / largest.reshape(*maps.shape[:2], *[1] * (maps.dim() - 2))


def asked_again(outputs: Outputs, name: str) -> tuple[Sequence[nn.Module], Batch]:
    """Return the members and the batch that they share; a ValueError where only logits are known."""
    if not outputs.members or outputs.shared is None:
        raise ValueError(
            f"the loss '{name}' asks the members for maps of a shared batch: it needs Outputs with members and "
            "shared, not logits alone."
        )
    return outputs.members, outputs.shared

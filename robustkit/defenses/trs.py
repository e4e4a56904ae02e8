"""TRS, transferability-reduced smooth ensembles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.base.errors import UserError
from robustkit.defenses import Loss, Outputs, defense
from robustkit.defenses._terms import asked_again, pair_cosines, safe_norm, scale_free, summed_cross_entropy
from robustkit.functional.attribution import loss_gradients
from robustkit.functional.norms import project, steepest
from robustkit.functional.precision import full


@defense(
    "trs",
    source="Yang et al. 2021, arXiv:2104.00671, section 3.3",
    members=2,
    check="fits",
    paper="trs",
)
def trs(
    outputs: Outputs, *, similarity: float = 10.0, smoothness: float = 0.08, eps: float = 0.03, steps: int = 3
) -> Loss:
    """Transferability-reduced smooth: members' loss gradients are orthogonal, and short all around an image.

    L = sum_m CE_m + similarity * mean over pairs of |cos(g_a, g_b)| + smoothness * mean_m |g_m(x')|_2, averaged over
    the batch, g_m = grad_x CE_m; x' is where within ``eps`` of x the mean length of the gradients is largest, by
    ``steps`` of sign ascent of eps / 3. Deviations: gradients in eval mode and of each sample's own loss (the public
    code's are of the batch's mean, so that its weight of the length, 10, is divided by its batch of 128); the ascent
    is for every sample, as in the paper's equation, where the code has six steps for half of them; it begins at the
    image, not at a random point, and ``eps`` does not grow with the epochs.

    Parameters
    ----------
    similarity, smoothness : float
        Weights of the two terms.
    eps : float
        Size of the neighbourhood, Linf, in pixel units.
    steps : int
        Steps of the ascent, each with a second derivative; 0: gradients at the images alone.
    """
    members, batch = asked_again(outputs, "trs")
    alike = pair_cosines(scale_free(loss_gradients(members, batch.x, batch.y))).abs().mean()
    length = lengths(members, roughest(members, batch.x, batch.y, eps, steps), batch.y).mean()
    ce = summed_cross_entropy(full(outputs.logits), outputs.y, outputs.smoothing)
    parts = {"ce": ce.detach(), "similarity": alike.detach(), "gradient": length.detach()}
    return Loss(ce + similarity * alike + smoothness * length, parts)


def lengths(members: Sequence[nn.Module], x: Tensor, y: Tensor) -> Tensor:
    """Return the mean over members of the Euclidean length of the loss gradient at each sample, (B,)."""
    return safe_norm(loss_gradients(members, x, y).flatten(2)).squeeze(2).mean(0)


def roughest(members: Sequence[nn.Module], x: Tensor, y: Tensor, eps: float, steps: int) -> Tensor:
    """Return images within ``eps`` of x where the loss gradients are long, (B, C, H, W); weights get no gradient."""
    found = x.detach().clone()
    for _ in range(steps):
        found.requires_grad_()
        (gradient,) = torch.autograd.grad(lengths(members, found, y).sum(), found)
        found = project(found.detach() + eps / 3 * steepest(gradient, "linf"), x, eps, "linf")
    return found.detach()


def fits(params: Mapping[str, Any], members: int, classes: int) -> None:
    """Check that there is a neighbourhood to look at."""
    if params["eps"] <= 0 and params["steps"] > 0:
        raise UserError(
            f"defense 'trs' looks for long gradients within eps {params['eps']:g}, which must be above 0; use --set "
            "trs.steps=0 for the gradients at the images alone."
        )

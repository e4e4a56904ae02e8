"""What an attack returns is checked, then scored by the untouched model: an attack's own word does not count."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustkit.attacks import is_minimum
from robustkit.ensembles.ensemble import Ensemble
from robustkit.functional.batching import in_parts
from robustkit.functional.norms import project, size
from robustkit.functional.precision import exactly
from robustkit.functional.sending import sent
from robustkit.records.cells import Cell
from robustkit.records.samples import ERROR, OK, OVER_BUDGET

SCORE_BATCH = 256  # fixed: the reported scores must not depend on --batch-size
TOLERANCE = 1e-6  # by which float32 rounding may exceed a budget
SIZES = ("l0", "l1", "l2", "linf")


def verify(perturbed: object, x: Tensor, cell: Cell) -> tuple[Tensor, Tensor, list[str]]:
    """Return images in the ball and the box, a status for each (B,), and what was wrong with what came back.

    Parameters
    ----------
    perturbed : object
        What the attack returned for x (B, C, H, W); anything but a tensor of that shape is an error.
    """
    status = torch.full((len(x),), OK)
    if not isinstance(perturbed, Tensor) or perturbed.shape != x.shape:
        return x, torch.full((len(x),), ERROR), [f"{cell.name} returned no images of shape {tuple(x.shape)}"]
    warnings = []
    perturbed = perturbed.detach().cpu().float()
    finite = torch.isfinite(perturbed).flatten(1).all(1)
    if not bool(finite.all()):
        warnings.append(f"{cell.name} returned pixels that are not finite")
        status[~finite] = ERROR
        perturbed = torch.where(finite[:, None, None, None], perturbed, x)
    outside = ((perturbed < -TOLERANCE) | (perturbed > 1 + TOLERANCE)).flatten(1).any(1)
    where = "the [0, 1] box"
    if cell.eps is not None:
        if not is_minimum(cell.name):  # that has no budget to keep to: what it finds beyond is projected, and scored
            outside |= size(perturbed - x, cell.norm) > cell.eps + TOLERANCE * max(1.0, cell.eps)
        where = f"the {cell.norm} ball of eps {cell.eps:g} or {where}"
        perturbed = project(perturbed, x, cell.eps, cell.norm)
    if bool(outside.any()):
        warnings.append(f"{cell.name} left {where}; its images were projected")
        status[outside & finite] = OVER_BUDGET
    return perturbed.clamp(0.0, 1.0), status, warnings


@dataclass
class Scores:
    """Of B images: member logits (M, B, L), fused log-probabilities (B, L), sizes of the perturbation (4, B)."""

    member_logits: Tensor
    fused: Tensor
    sizes: Tensor

    @property
    def finite(self) -> Tensor:
        """Whether the model's output is finite, bool (B,)."""
        return torch.isfinite(self.member_logits).all(2).all(0)

    @property
    def prediction(self) -> Tensor:
        """Fused prediction, int64 (B,)."""
        return self.fused.argmax(1)


@torch.no_grad()
def score(ensemble: Ensemble, x: Tensor, perturbed: Tensor, device: torch.device) -> Scores:
    """Score images (B, C, H, W) with the ensemble and measure how far they are from x; everything on the CPU."""

    def scored(part: slice) -> tuple[Tensor, Tensor]:
        logits = ensemble.member_logits(sent(perturbed[part], device)).float()
        fused = ensemble.fuse(logits).float()  # on the device, where a rule with weights has them
        return logits, fused

    with exactly(device):
        members, fused = zip(*in_parts(scored, len(perturbed), SCORE_BATCH)[0], strict=True)
    delta = perturbed - x
    sizes = torch.stack([size(delta, norm).float() for norm in SIZES])
    sizes[0] /= max(1, x[0].numel())  # l0 as a share of all elements
    # Only here is a GPU waited for, which has been given all batches and needs no more memory.
    return Scores(torch.cat([part.cpu() for part in members], 1), torch.cat([part.cpu() for part in fused]), sizes)

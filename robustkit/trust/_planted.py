"""A vulnerability that is known to be there: binary heads that one point of the ball defeats.

Zimmermann et al. 2022, "Increasing confidence in adversarial robustness evaluations" (arXiv:2206.13991). For each
sample a linear head on the members' logits separates points inside the ball from one point at its edge; an attack that
can attack this model must find that point or another one behind the boundary. Deviations: the head reads logits, not
the last hidden features, so that any model has it; it is fitted in closed form (ridge), not by logistic regression; and
all samples are attacked in one batch, each row by the head of the sample in whose ball it lies.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from robustkit.ensembles.ensemble import Ensemble
from robustkit.functional.norms import size
from robustkit.trust._evidence import Bools

if TYPE_CHECKING:
    from robustkit.trust._job import Job

INSIDE = 0.5  # radius of the inner points, as a share of the ball's
RIDGE = 1e-2  # of the mean variance of the features
REACH = 0.9  # how far the boundary lies on the way from the furthest inner point to the planted one
SHARP = 5.0  # logit of the planted point's distance to the furthest inner one
CHUNK = 2**24  # elements of the differences between images and balls in memory at a time


def attack_heads(job: Job) -> tuple[Bools, Bools]:
    """Return for each sample of a job whether a head could be made for it, and whether the attack defeated it."""
    weights, offsets, usable = fit_heads(job)
    usable &= apart(job.x, job.eps, job.cell.norm).numpy()
    hit = np.zeros(len(job.x), bool)
    rows = np.flatnonzero(usable)
    if len(rows):
        head = Head(
            job.craftings(job.cell.ensemble).exact,
            job.x[rows],
            job.y[rows],
            weights[rows],
            offsets[rows],
            job.cell.norm,
        )
        model = Ensemble([head], "mean-logit").to(job.run_options.device).eval()
        hit[rows] = job.select(rows).broken_by(job.attack(job.eps), ensemble=model)
    return usable, hit


def fit_heads(job: Job) -> tuple[Tensor, Tensor, Bools]:
    """Return weights (n, F), offsets (n,) and whether each head tells its planted point from all inner ones.

    The head's score w.f + b is positive for what counts as unharmed: every inner point and x itself.
    """
    half = job.params["draws"] // 2
    inside = _features(job, [job.x[None], *job.noisy(INSIDE * job.eps, half)])
    outside = _features(job, job.edge(half))
    mean = inside.mean(1, keepdim=True)
    centred = inside - mean
    spread = centred.mT @ centred / inside.shape[1]
    level = spread.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-12)
    spread = spread + RIDGE * level[:, None, None] * torch.eye(spread.shape[1], dtype=torch.float64)
    way = torch.linalg.solve(spread, (outside - mean).mT).mT  # (n, draws, F)
    planted = ((outside - mean) * way).sum(2).argmax(1)  # the point that stands out most
    w = way[torch.arange(len(way)), planted]
    score_planted = ((outside - mean)[torch.arange(len(way)), planted] * w).sum(1)
    furthest = (centred * w[:, None]).sum(2).amax(1)
    gap = score_planted - furthest
    usable = (gap > 1e-6 * score_planted.abs()) & torch.isfinite(gap)
    scale = SHARP / torch.where(usable, gap, torch.ones_like(gap))
    boundary = furthest + REACH * gap + (w * mean[:, 0]).sum(1)
    return (-scale[:, None] * w).float(), (scale * boundary).float(), usable.numpy()


def _features(job: Job, parts: Iterable[Tensor]) -> Tensor:
    """Return the features of images (d, n, C, H, W), in float64 (n, D, F) for all D draws."""
    rows = [features(job.member_logits(part.flatten(0, 1))).view(*part.shape[:2], -1) for part in parts]
    return torch.cat(rows).transpose(0, 1).double()


def apart(x: Tensor, eps: float, norm: str) -> Tensor:
    """Return which images (n, C, H, W) have a ball that meets no ball of an earlier such image, bool (n,)."""
    chosen: list[int] = []
    for row in range(len(x)):
        if all(float(size((x[row] - x[other])[None], norm)) > 2.01 * eps for other in chosen):
            chosen.append(row)
    kept = torch.zeros(len(x), dtype=torch.bool)
    kept[chosen] = True
    return kept


class Head(nn.Module):
    """A classifier of n known images by binary heads: the true label, or the next one where the head is defeated.

    Further classes are never predicted; losses that rank three classes need them.

    Parameters
    ----------
    x : Tensor
        The images (n, C, H, W) that the heads were made for, with labels y (n,); their balls must be disjoint.
    weights, offsets : Tensor
        (n, F) and (n,); F features are the logits of all members.
    """

    x: Tensor
    y: Tensor
    weights: Tensor
    offsets: Tensor

    def __init__(self, ensemble: Ensemble, x: Tensor, y: Tensor, weights: Tensor, offsets: Tensor, norm: str) -> None:
        super().__init__()
        self.ensemble, self.norm = ensemble, norm
        for name, value in {"x": x, "y": y, "weights": weights, "offsets": offsets}.items():
            self.register_buffer(name, value)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, L) of images in the balls around the known ones."""
        z = self.ensemble.member_logits(x)
        row = self._nearest(x.detach())
        score = (features(z) * self.weights[row]).sum(1) + self.offsets[row]
        classes, label = z.shape[2], self.y[row]
        logits = -score.abs().detach()[:, None].expand(-1, classes) - torch.arange(1, classes + 1, device=x.device)
        logits = logits.scatter(1, ((label + 1) % classes)[:, None], -score[:, None])
        return logits.scatter(1, label[:, None], score[:, None])

    def _nearest(self, x: Tensor) -> Tensor:
        step = max(1, CHUNK // self.x.numel())
        parts = [(part[:, None] - self.x).flatten(0, 1) for part in torch.split(x, step)]
        return torch.cat([size(part, self.norm).view(-1, len(self.x)).argmin(1) for part in parts])


def features(member_logits: Tensor) -> Tensor:
    """Return (B, M L) from member logits (M, B, L)."""
    return member_logits.transpose(0, 1).flatten(1)

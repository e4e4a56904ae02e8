"""A network of 1,200 parameters, and ensembles of it that are trained within a test."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustkit.data import Dataset
from robustkit.ensembles.ensemble import Ensemble, Member

EPOCHS, STEPS, BATCH = 12, 4, 64


class Tiny(nn.Module):
    """Sixteen hidden units: of so few, members learn different ones. No modules inside, each of which takes time."""

    def __init__(self, pixels: int, classes: int) -> None:
        super().__init__()
        first, second = nn.Linear(pixels, 16), nn.Linear(16, classes)
        self.w1, self.b1, self.w2, self.b2 = first.weight, first.bias, second.weight, second.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, L)."""
        hidden = functional.relu(functional.linear(x.flatten(1), self.w1, self.b1))
        return functional.linear(hidden, self.w2, self.b2)


def trained(data: Dataset, seed: int, eps: float = 0.0, members: int = 2) -> Ensemble:
    """Train an ensemble; with ``eps`` on PGD examples against its fused output (Madry et al. 2018)."""
    _, x, y = data.split("train").batch(torch.arange(len(data.split("train"))))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        ensemble = Ensemble([Member(Tiny(x[0].numel(), 10)) for _ in range(members)])
    order = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(ensemble.parameters(), lr=5e-3)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x), generator=order).split(BATCH):
            point = _hardest(ensemble, x[rows], y[rows], eps) if eps else x[rows]
            losses = [functional.cross_entropy(z, y[rows]) for z in ensemble.member_logits(point)]
            optimiser.zero_grad()
            torch.stack(losses).sum().backward()
            optimiser.step()
    return ensemble.eval().requires_grad_(False)


def _hardest(ensemble: Ensemble, x: Tensor, y: Tensor, eps: float) -> Tensor:
    made = x
    for _ in range(STEPS):
        made = made.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(functional.nll_loss(ensemble(made), y), made)
        moved = made.detach() + 2.5 * eps / STEPS * gradient.sign()
        made = (x + (moved - x).clamp(-eps, eps)).clamp(0, 1)
    return made.detach()

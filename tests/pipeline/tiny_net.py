"""A network of 4,500 parameters, and ensembles of it that are trained within a test."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustkit.data import Dataset
from robustkit.ensembles.ensemble import Ensemble, Member

EPOCHS, STEPS, BATCH = 12, 4, 64


class Tiny(nn.Module):
    """A 3x3 convolution of stride 2 with eight channels, then two linear layers."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, 3, stride=2, padding=1)
        self.fc1 = nn.Linear(8 * 4 * 4, 32)
        self.fc2 = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, 8, 8) to logits (B, L)."""
        out = functional.relu(self.conv(x))
        logits: Tensor = self.fc2(functional.relu(self.fc1(torch.flatten(out, 1))))
        return logits


def trained(data: Dataset, seed: int, eps: float = 0.0, members: int = 2) -> Ensemble:
    """Train an ensemble; with ``eps`` on PGD examples against its fused output (Madry et al. 2018)."""
    _, x, y = data.split("train").batch(torch.arange(len(data.split("train"))))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        ensemble = Ensemble([Member(Tiny(1, 10)) for _ in range(members)])
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

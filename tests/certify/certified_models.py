"""Small networks whose bounds the tests look at."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustkit.ensembles.ensemble import Ensemble, Member


class Mixed(nn.Module):
    """Convolution, batch norm, residual addition, overlapping maximum pooling, average pooling, linear."""

    def __init__(self, seed: int, classes: int = 4) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.one, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.two, self.out = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(16, classes)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        z = functional.relu(self.norm(self.one(x)), inplace=True)
        z = functional.relu(z + self.two(z))
        z = functional.avg_pool2d(functional.max_pool2d(z, 3, 2, 1), 2)
        return self.out(torch.flatten(z, 1))


class Plain(nn.Sequential):
    """Linear layers with ReLU between them."""

    def __init__(self, seed: int, *sizes: int) -> None:
        torch.manual_seed(seed)
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in zip(sizes, sizes[1:], strict=False):
            layers += [nn.Linear(before, after), nn.ReLU()]
        super().__init__(*layers[:-1])


def mixed(members: int = 3, fusion: str = "mean-logit") -> Ensemble:
    """Members that differ a little, so that they often agree."""
    made = [Mixed(0) for _ in range(members)]
    generator = torch.Generator().manual_seed(1)
    for net in made:
        for weight in net.parameters():
            weight.data += 0.02 * torch.randn(weight.shape, generator=generator)
    return Ensemble([Member(net, (0.4,), (0.3,)).eval() for net in made], fusion).eval()


def attacked(ensemble: nn.Module, x: Tensor, y: Tensor, eps: float, norm: str, draws: int = 40) -> Tensor:
    """Return which samples some image of the region makes wrong: random ones, corners, and projected gradients."""
    from robustkit.functional.norms import project, steepest

    broken = ensemble(x).argmax(1) != y
    for draw in range(draws):
        z = x + eps * torch.empty_like(x).uniform_(-1, 1, generator=torch.Generator().manual_seed(draw)).sign()
        z = project(z, x, eps, norm)
        for _ in range(6 if draw < 8 else 0):
            z = z.requires_grad_()
            score = ensemble(z)
            (g,) = torch.autograd.grad(functional.cross_entropy(score, y, reduction="sum"), z)
            broken |= score.argmax(1) != y
            z = project(z.detach() + eps / 3 * steepest(g, norm), x, eps, norm)
        broken |= ensemble(z.detach()).argmax(1) != y
    return broken

"""ARC against ensembles whose members are drawn: closed forms, and where the gradient of a mean loss stands still."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robustkit import attacks
from robustkit.base.errors import UserError
from robustkit.ensembles.ensemble import Ensemble
from robustkit.functional.norms import size
from robustkit.functional.sampling import SampleGenerator
from robustkit.functional.trace import Trace
from robustkit.pipeline.request import check_fusions

DIMENSIONS = 64


class Plane(nn.Module):
    """Two classes on either side of a plane, z = (<w, x> + b, 0)."""

    def __init__(self, w: Tensor, b: float) -> None:
        super().__init__()
        self.register_buffer("w", w)
        self.b = b

    def forward(self, x: Tensor) -> Tensor:
        value = x.flatten(1) @ self.w + self.b
        return torch.stack([value, torch.zeros_like(value)], 1)


def opposed(shares: tuple[float, ...] = (0.5, 0.5), turn: float = 0.6) -> tuple[Ensemble, Tensor, Tensor]:
    """Two planes whose normals almost contradict each other, and points between them that both get right.

    A step that crosses both planes exists for every point; along the sum of the normals alone it does not.
    """
    generator = torch.Generator().manual_seed(4)
    across = torch.randn(DIMENSIONS, generator=generator, dtype=torch.float64)
    along = torch.randn(DIMENSIONS, generator=generator, dtype=torch.float64)
    along -= (along @ across) / (across @ across) * across
    across, along = across / across.norm(), along / along.norm()
    one, two = turn * along + across, turn * along - across
    x = 0.5 + 0.05 * (torch.rand((100, 1, 8, 8), generator=generator, dtype=torch.float64) - 0.5)
    middle = torch.full((DIMENSIONS,), 0.5, dtype=torch.float64)
    planes = [Plane(w / w.norm(), float(0.2 - middle @ w / w.norm())) for w in (one, two)]
    fusion = f"random:{','.join(map(str, shares))}"
    return Ensemble(planes, fusion).eval(), x, torch.zeros(100, dtype=torch.int64)


def expected(ensemble: Ensemble, x: Tensor, y: Tensor) -> Tensor:
    """The expected accuracy on each sample, member by member."""
    right = (ensemble.member_logits(x).argmax(2) == y).double()
    return torch.tensor(ensemble.chances, dtype=torch.float64) @ right


def run(name: str, ensemble: nn.Module, x: Tensor, y: Tensor, **more: object) -> Tensor:
    return attacks.get(name)(ensemble, x, y, generator=SampleGenerator(0, torch.arange(len(x)), name), **more)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_one_plane_is_crossed_exactly_where_it_is_in_reach(norm: str):
    ensemble, x, y = opposed()
    plane = ensemble.members[0]
    distance = plane(x)[:, 0] / (plane.w.abs().sum() if norm == "linf" else plane.w.norm())
    eps = float(distance.median())
    for model in (Ensemble([plane], "random"), plane):
        made = run("arc", model, x, y, eps=eps, norm=norm)
        assert size(made - x, norm).max() <= eps * (1 + 1e-9)
        wrong = plane(made).argmax(1) != y
        clear = (distance - eps).abs() > 1e-3 * eps
        assert torch.equal(wrong[clear], distance[clear] < eps)

"""Weights cast to bfloat16 once give what autocast gives that casts them in every pass."""

from __future__ import annotations

import pytest
import torch
from accelerator import pretend_cuda
from torch import nn
from torch.nn.utils import parametrizations

from robustkit.ensembles.bfloat16 import cast_once, layers
from robustkit.ensembles.ensemble import Ensemble
from robustkit.ensembles.fastpath import _Rough


class Scaled(nn.Conv2d):
    """Computes with its weight before the convolution does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(x, self.weight / self.weight.std(), self.bias)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), Scaled(4, 4, 1), nn.Flatten(),
        parametrizations.weight_norm(nn.Linear(4 * 36, 8)), nn.Linear(8, 5),
    ).eval().requires_grad_(False)  # fmt: skip


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_the_same_numbers_and_gradients(x: torch.Tensor):
    plain, made = net(), cast_once(net())
    assert [name for name, _ in layers(plain)] == ["0", "6"], "neither the subclass nor the parametrised layer"
    assert made[0].weight.dtype == made[0].bias.dtype == torch.bfloat16
    assert made[1].weight.dtype == plain[0].weight.dtype == torch.float32
    found = []
    for model in (plain, made):
        point = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(point)
        found.append((logits.detach(), torch.autograd.grad(logits.float().logsumexp(1).sum(), point)[0]))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_trained_weights_stay_as_they_are():
    assert not list(layers(net().requires_grad_(True)))


def test_a_rough_copy_casts_no_weight_in_a_pass(x: torch.Tensor):
    with pretend_cuda() as gpu:
        exact = Ensemble([net()[:3].append(nn.Flatten()).append(nn.Linear(4 * 36, 5))]).eval().requires_grad_(False)
        exact.to("cuda")
        rough, on = _Rough(exact), x.to("cuda")
        with torch.autocast("cuda", torch.bfloat16):
            expected = exact.member_logits(on).float()
        casts = []
        for model in (exact, rough):
            gpu.clear()
            with torch.autocast("cuda", torch.bfloat16):
                model.member_logits(on)
            casts.append(sum(count for line, count in gpu.launches.items() if line.endswith("_to_copy")))
        assert casts[1] <= casts[0] - 4, "two weights and two biases"
        assert torch.equal(rough.member_logits(on).cpu(), expected.cpu())

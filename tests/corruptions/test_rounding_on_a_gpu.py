"""Corruptions have the CPU's levels on a GPU that convolves in TF32 and divides by multiplying."""

from __future__ import annotations

import pytest
import torch
from accelerator import pretend_cuda

from robustkit import corruptions
from robustkit.corruptions import _poisson
from robustkit.corruptions._motion import motion_blurred
from robustkit.data import Dataset
from robustkit.functional.precision import divided
from robustkit.functional.sampling import SampleGenerator

GPU = torch.device("cuda:0")


@pytest.mark.parametrize(
    "name", ["defocus_blur", "shot_noise", "motion_blur", "jpeg_compression", "pixelate", "snow", "impulse_noise"]
)
def test_the_same_levels(name: str, digits: Dataset, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_poisson, "_by_search", lambda *_: pytest.fail("levels are found in the table"))
    rows = torch.arange(6)
    x = (digits.split("test").take(6).tensor().expand(-1, 3, -1, -1).repeat(1, 1, 2, 2) * 255).round() / 255
    for severity in (2, 5):
        expected = corruptions.get(name)(x, severity, generator=SampleGenerator(3, rows, "gpu"))
        with pretend_cuda(rounds=True):
            made = corruptions.get(name)(x.to(GPU), severity, generator=SampleGenerator(3, rows, "gpu")).cpu()
        assert torch.equal(made, expected)


@pytest.mark.parametrize("name", ["motion_blur", "snow"])
def test_blur_along_a_line_of_its_own_launches_as_much_for_many_images_as_for_few(name: str, digits: Dataset):
    launched = {}
    for count in (2, 24):
        x = digits.split("test").take(count).tensor().repeat(1, 1, 4, 4)
        draws = [SampleGenerator(3, torch.arange(count), "gpu") for _ in range(2)]
        expected = corruptions.get(name)(x, 5, quantize=False, generator=draws[0])
        with pretend_cuda() as gpu:
            made = corruptions.get(name)(x.to(GPU), 5, quantize=False, generator=draws[1]).cpu()
            launched[count] = sum(gpu.launches.values())
        torch.testing.assert_close(made, expected, rtol=0, atol=1e-6)
    assert launched[24] < 1.2 * launched[2]
    assert launched[24] < 250


def test_a_blur_along_a_line_is_differentiable_where_images_are_side_by_side():
    x, degrees = torch.rand(2, 1, 6, 6, dtype=torch.float64), torch.tensor([30.0, -10.0])
    on_cpu = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(motion_blurred(on_cpu, 2.0, 1.5, degrees, False).square().sum(), on_cpu)
    with pretend_cuda():
        point = x.to(GPU).requires_grad_()
        (made,) = torch.autograd.grad(motion_blurred(point, 2.0, 1.5, degrees.to(GPU), False).square().sum(), point)
        torch.testing.assert_close(made.cpu(), expected)


def test_a_division_is_one():
    levels = torch.arange(256.0)
    with pretend_cuda(rounds=True):
        assert torch.equal(divided(levels.to(GPU), 255).cpu(), levels / 255)
        assert int(((levels.to(GPU) / 255).cpu() != levels / 255).sum()) == 126
    assert torch.equal(divided(levels, 255), levels / 255)

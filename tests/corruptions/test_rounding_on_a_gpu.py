"""Corruptions have the CPU's levels on a GPU that convolves in TF32 and divides by multiplying."""

from __future__ import annotations

import pytest
import torch
from accelerator import pretend_cuda

from robustkit import corruptions
from robustkit.corruptions import _poisson
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


def test_a_division_is_one():
    levels = torch.arange(256.0)
    with pretend_cuda(rounds=True):
        assert torch.equal(divided(levels.to(GPU), 255).cpu(), levels / 255)
        assert int(((levels.to(GPU) / 255).cpu() != levels / 255).sum()) == 126
    assert torch.equal(divided(levels, 255), levels / 255)

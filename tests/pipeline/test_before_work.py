"""What can be known before any work is said before any work: nothing is trained for a request that cannot be met."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from networks import perceptron

import robustkit
from robustkit.base.errors import UserError
from robustkit.pipeline import models_under_test

NETS = """
from torch import nn

def wide(channels, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * channels, classes + 1))

def large(channels, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, classes))

def headless(channels, classes):
    return nn.Sequential(nn.Conv2d(channels, classes, 8), nn.Flatten())
"""


@pytest.fixture
def two_classes() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.rand(120, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return x, (x.mean((1, 2, 3)) > 0.5).long()


@pytest.fixture(autouse=True)
def _nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models_under_test, "trained", lambda *given, **more: pytest.fail("a training began"))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"defense": "adp"}, "defense 'adp' with beta 0.5 cannot have 3 members on 2 classes"),
        ({"defense": "advt-fgsm,adp+advt-fgsm"}, "defense 'adp' with beta 0.5 cannot have 3 members on 2 classes"),
        ({"defense": "sdde", "arch": "networks:perceptron"}, "gives no convolutional maps of at least 3x3 pixels"),
        ({"defense": "dice", "arch": "nets.py:headless"}, "has no linear layer, whose inputs the defence needs"),
        ({"defense": "advt-fgsm", "arch": "nets.py:large"}, "'.*nets.py:large' cannot be run on images of 1x8x8 "),
        ({"defense": "advt-fgsm", "arch": "nets.py:wide"}, r"with shape \(1, 3\), not with logits of shape \(1, 2\)"),
        ({"defense": "ncl,gncl", "members": 1}, "needs at least 2 of them, not 1"),
    ],
)
def test_a_defence_that_does_not_fit_is_refused_before_the_baseline_is_trained(
    asked: dict[str, Any], message: str, two_classes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        robustkit.evaluate(dataset=two_classes, baseline=True, attacks="pgd", out=tmp_path / "out", **asked)


def test_a_surrogate_is_not_trained_for_an_audit_that_is_refused(two_classes, tmp_path: Path):
    asked = {"attacks": "pgd", "surrogate": "train", "force": True, "out": tmp_path / "out"}
    for more, message in (
        ({"target": 5}, "target 5 is outside the classes"),
        ({"corruption_reference": "nobody"}, "unknown reference of corruptions 'nobody'"),
        (
            {"suites": "corruptions,transfer", "corruption_dir": tmp_path / "none"},
            "is no folder; give that of a published set",
        ),
    ):
        with pytest.raises(UserError, match=message):
            robustkit.audit(perceptron(1, 2), two_classes, **asked, **more)

"""What models answer with: outputs that are not finite, and other precisions than the images'."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import robustkit
from robustkit.trust._job import apart

ASKED: dict[str, Any] = {"suites": "attacks", "eps": [0.1], "n": 30, "reference": False, "formats": ()}


class Through(nn.Module):
    """A network whose logits pass through a function."""

    def __init__(self, network: nn.Module, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.function = network, function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.network(x))


def audited(model: object, images: tuple[Tensor, Tensor], out: Path, **more: Any) -> dict[str, Any]:
    return robustkit.audit(model, images, out=out, **{**ASKED, **more})


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda z: torch.log(torch.softmax(40 * z, 1)), "-inf: return logits, or log_softmax"),
        (lambda z: torch.where(z == z.amax(1, keepdim=True), torch.inf, z), "NaN or infinite on 64 of 64 images"),
        (lambda z: z * torch.nan, "NaN or infinite on 64 of 64 images"),
    ],
    ids=["log of a softmax", "infinite", "nan"],
)
def test_outputs_that_are_not_finite_do_not_end_an_audit(
    function: Callable[[Tensor], Tensor], said: str, network: nn.Module, test_images, tmp_path: Path
):
    results = audited(Through(network, function), test_images, tmp_path, attacks="pgd", formats=("md",))
    assert json.loads((tmp_path / "results.json").read_text()) == results
    findings = {f["what"]: f for f in results["audit"][0]["findings"]}
    assert (findings["finite outputs"]["value"], findings["finite outputs"]["concern"]) == ("no", True)
    assert said in findings["finite outputs"]["evidence"]
    assert None in [trial["log_likelihood"] for trial in results["audit"][0]["trials"]]
    assert {e["verdict"] for e in results["evaluations"]} == {"invalid"}


def test_outputs_that_are_equal_and_infinite_do_not_differ():
    inf, nan = torch.inf, torch.nan
    a, b = torch.tensor([inf, -inf, nan, 1.0, inf, nan]), torch.tensor([inf, -inf, nan, 3.0, 1.0, 2.0])
    assert apart(a, b).tolist() == [0.0, 0.0, 0.0, 2.0, inf, inf]

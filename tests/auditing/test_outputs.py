"""What models answer with: outputs that are not finite, and other precisions than the images'."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import robustkit
from robustkit.base.errors import UserError
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


def numbers(results: dict[str, Any]) -> list[tuple[str, float, str]]:
    return [(e["attack"], e["robust_accuracy"], e["verdict"]) for e in results["evaluations"]]


CHEAP = ["deepfool.steps=5", "fab.steps=5", "fab.targets=2", "fmn.steps=20", "cw.steps=10", "cw.search_steps=2"]


@pytest.mark.parametrize("kind", ["module", "function"])
def test_a_model_that_answers_in_float64_is_attacked_as_in_float32(
    kind: str, network: nn.Module, test_images, tmp_path: Path
):
    asked = {"attacks": "pgd,deepfool,fab,fmn,cw", "settings": CHEAP, "trust": "off"}
    wide = Through(network, Tensor.double)
    expected = audited(network, test_images, tmp_path / "plain", **asked)
    found = audited(wide if kind == "module" else lambda x: wide(x), test_images, tmp_path / "wide", **asked)
    assert numbers(found) == numbers(expected)
    assert found["ensembles"][0]["accuracy"] == expected["ensembles"][0]["accuracy"] > 0.9


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_converted_in_a_copy(
    dtype: torch.dtype, network: nn.Module, test_images, tmp_path: Path
):
    own = copy.deepcopy(network.network).to(dtype)
    results = audited(own, test_images, tmp_path, attacks="pgd", trust="off")
    name = str(dtype).removeprefix("torch.")
    assert results["audit"][0]["notes"] == [f"weights were converted from {name} to float32, in a copy"]
    assert results["ensembles"][0]["accuracy"] > 0.8
    assert {p.dtype for p in own.parameters()} == {dtype}
    expected = audited(copy.deepcopy(own).float(), test_images, tmp_path / "float", attacks="pgd", trust="off")
    assert numbers(results) == numbers(expected)


class Casting(nn.Module):
    """Half inside, float32 outside, as many a deployed model is."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.bfloat16()).float()


def test_a_model_that_casts_itself_is_left_as_it_is_and_a_function_has_its_own_reason(
    network: nn.Module, test_images, tmp_path: Path
):
    results = audited(Casting(copy.deepcopy(network)), test_images, tmp_path, attacks="pgd", trust="off")
    assert results["audit"][0]["notes"] == []
    wide = copy.deepcopy(network.network).double()
    with pytest.raises(UserError, match="fails on images of shape .* must have the same dtype"):
        audited(lambda x: wide(x), test_images, tmp_path / "wide", attacks="pgd")

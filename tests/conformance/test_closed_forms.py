"""Every minimum-norm attack finds the smallest perturbation of a linear model, which is known; l0 to the element."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustkit import attacks
from robustkit.attacks import attack
from robustkit.base.registry import Entry
from robustkit.functional.losses import margin
from robustkit.functional.norms import size
from robustkit.functional.sampling import SampleGenerator

DUAL = {"linf": "l1", "l2": "l2", "l1": "linf"}
CASES = [(e, norm) for e in attack if e.facts.get("budget") == "minimum" for norm in e.facts["norms"]]
# What makes small what is measured here, and enough of it: EAD's default rule is another one, JSMA gives up after a
# tenth of the elements, and steps of 0.1 would have it change more elements than one to the edge.
SETTINGS: dict[str, dict[str, Any]] = {
    "ead": {"decision_rule": "L1", "beta": 0.1, "initial_c": 1.0, "steps": 300},
    "jsma": {"theta": 1.0, "gamma": 1.0},
    "cw": {"steps": 300},
    "sigma-zero": {"steps": 200},
    "rays": {"queries": 1500},
}


def linear(gaps: tuple[float, float]) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """A two-class model of 48 inputs, 8 images in the middle of the box, their labels, and the boundary's normal.

    The gaps of the logits are spread between two numbers, on both sides of the boundary.
    """
    draws = torch.Generator().manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2)).double()
    model[1].weight.data = torch.randn((2, 48), generator=draws).double()
    model[1].bias.data.zero_()
    w = (model[1].weight[1] - model[1].weight[0]).detach()
    x = 0.48 + 0.04 * torch.rand((8, 48), generator=draws).double()
    y = torch.arange(8) % 2
    wanted = torch.linspace(*gaps, 8).double() * (2 * y - 1)
    model[1].bias.data[1] = -(0.5 * w).sum()
    x = x + ((wanted - (x - 0.5) @ w) / w.square().sum())[:, None] * w  # which moves no pixel far
    return model, x.view(8, 3, 4, 4), y, w


@pytest.mark.parametrize(("entry", "norm"), CASES, ids=[f"{e.name}-{n}" for e, n in CASES])
def test_the_smallest_perturbation_of_a_linear_model_is_found(entry: Entry, norm: str):
    model, x, y, w = linear((2.0, 8.0) if norm == "l0" else (0.6, 1.2))
    gap = -margin(model(x), y).detach()
    assert gap.min() > 0.5
    assert torch.equal(model(x).argmax(1), y)
    given = {**SETTINGS.get(entry.name, {}), **({"norm": norm} if len(entry.facts["norms"]) > 1 else {})}
    made = attacks.get(entry.name)(model, x, y, **given, generator=SampleGenerator(0, torch.arange(8)))
    assert (model(made).argmax(1) != y).all()
    if norm == "l0":
        assert size(made - x, "l0").tolist() == fewest(gap, x, y, w, only_up=entry.name == "jsma").tolist()
    else:
        assert (x - gap.max() / w.abs().max()).min() > 0  # the box is out of reach
        torch.testing.assert_close(size(made - x, norm), gap / size(w[None], DUAL[norm]), rtol=0.01, atol=0)


def fewest(gap: Tensor, x: Tensor, y: Tensor, w: Tensor, *, only_up: bool) -> Tensor:
    """Return how many elements must go to the edge of the box, those first that gain most."""
    toward = w * (1 - 2 * y[:, None])
    gain = torch.where(
        toward > 0, toward * (1 - x.flatten(1)), torch.zeros_like(toward) if only_up else -toward * x.flatten(1)
    )
    least = (gain.sort(descending=True).values.cumsum(1) <= gap[:, None]).sum(1) + 1
    assert least.min() >= 2
    assert least.max() >= 4
    return least

"""The nearest of several minimum-norm attacks: no farther than any of them, in any norm."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from robustkit import attacks
from robustkit.functional.norms import size
from robustkit.functional.trace import Trace

STEPS = 30
PARTS: dict[str, dict[str, dict[str, Any]]] = {
    "linf": {"pdpgd": {"norm": "linf"}, "fmn": {"norm": "linf"}, "fab": {"norm": "linf", "steps": STEPS // 6}},
    "l2": {"ddn": {}, "fmn": {"norm": "l2"}, "fab": {"norm": "l2", "steps": STEPS // 6}},
    "l1": {"pdpgd": {"norm": "l1"}, "ead": {"decision_rule": "L1", "steps": 50}, "fmn": {"norm": "l1"}},
    "l0": {"sigma-zero": {}, "pdpgd": {"norm": "l0", "step_size": 0.2}},
}


def made(side: int = 4, count: int = 24) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A network of boundaries that bend, and images with its own labels."""
    draws = torch.Generator().manual_seed(4)
    layers = (nn.Flatten(), nn.Linear(3 * side * side, 24), nn.ReLU(), nn.Linear(24, 4))
    model = nn.Sequential(*layers).double().requires_grad_(False)
    for parameter in model.parameters():
        parameter.copy_(0.4 * torch.randn(parameter.shape, generator=draws).double())
    x = torch.rand((count, 3, side, side), generator=draws).double()
    return model, x, model(x).argmax(1)


@pytest.mark.parametrize("norm", PARTS)
def test_it_is_as_near_as_the_nearest_of_its_attacks(norm: str):
    model, x, y = made(side=16 if norm == "l0" else 4)  # so that several elements have to change
    found = attacks.get("nearest")(model, x, y, norm=norm, steps=STEPS)
    assert (model(found).argmax(1) != y).all()
    own, each = size(found - x, norm), []
    for name, given in PARTS[norm].items():
        alone = attacks.get(name)(model, x, y, **{"steps": STEPS, **given})
        won = model(alone).argmax(1) != y
        each.append(torch.where(won, size(alone - x, norm), float("inf")))
    best = torch.stack(each).amin(0)
    assert (own <= best * (1 + 1e-9)).all()
    assert own.mean() < min(one.mean() for one in each)  # none of them is the nearest everywhere


def test_who_changes_one_element_is_done():
    model, x, y = made()
    trace = Trace(len(x))
    found = attacks.get("nearest")(model, x, y, norm="l0", steps=STEPS, trace=trace)
    one = size(found - x, "l0") <= 1
    assert one.any()
    assert not one.all()
    assert trace.forwards[one].max() < trace.forwards[~one].min()

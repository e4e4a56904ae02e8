"""What a person gives ``attacks.get(...)`` is checked as the command checks it, for every attack alike."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustkit import attacks
from robustkit.attacks import attack
from robustkit.base.errors import UserError
from robustkit.base.registry import Entry

CLASSES = 4
ENTRIES = list(attack)
each_attack = pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)


def has(entry: Entry, name: str) -> bool:
    return any(p.name == name for p in entry.params)


def run(entry: Entry, x: Any, y: Any, model: Any = None, **more: Any) -> Tensor:
    cheap = {"steps": 3, "queries": 10, "search_steps": 2, "eps": 0.1, "population": 4, "generations": 2}
    given = {name: value for name, value in cheap.items() if has(entry, name)}
    return attacks.get(entry.name)(model or linear(), x, y, generator=0, **{**given, **more})


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, CLASSES))


def images() -> tuple[Tensor, Tensor]:
    x = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    return x, linear()(x).argmax(1)


@each_attack
def test_bad_images_and_labels_are_refused(entry: Entry):
    x, y = images()
    refused: list[tuple[Any, Any, str]] = [
        (3 * x - 1, y, r"pixels from -0.\d+ to 1.9\d+, outside \[0, 1\]; leave their normalisation to the model"),
        (255 * x, y, r"outside \[0, 1\]; divide them by 255"),
        (x / 0, y, "outside|NaN"),
        (x.byte(), y, "the images are uint8; give a float tensor"),
        (x.half(), y, "the images are float16; give float32"),
        (x - x.min() - 1e-6, y, r"outside \[0, 1\]; so little is rounding: give x.clamp\(0, 1\)"),
        (x.numpy(), y, "the images are ndarray"),
        (x[:, 0], y, r"without a channel axis; add it: x\[:, None\]"),
        (x, y[:3], "there are 5 images but 3 labels"),
        (x, y - CLASSES, "the labels run from -"),
        (x, y + CLASSES, "the labels go up to 7, but the model has 4 outputs; number the classes from 0 to 3"),
        (x, y.float(), "the labels are float32; give integers"),
    ]
    for bad_x, bad_y, message in refused:
        with pytest.raises(UserError, match=message):
            run(entry, bad_x, bad_y)


@each_attack
def test_parameters_are_those_that_the_command_takes(entry: Entry):
    x, y = images()
    refused: dict[str, tuple[Any, str]] = {"stepz": (3, "has no parameter 'stepz'; it takes ")}
    if has(entry, "steps"):
        refused |= {"steps": (0, r"steps 0 is out of range; it must be in \[1, ")}
    if has(entry, "norm"):
        refused |= {"norm": ("l7", f"attack '{entry.name}' has no norm 'l7'; it supports ")}
    for name, (value, message) in refused.items():
        with pytest.raises(UserError, match=message):
            run(entry, x, y, **{name: value})


@pytest.mark.parametrize("entry", [e for e in ENTRIES if has(e, "eps")], ids=lambda e: e.name)
def test_budgets_out_of_range_and_no_budget_are_refused(entry: Entry):
    x, y = images()
    for eps, message in ((8, r"eps 8 is out of range; it must be in \[0, 1\]"), (-0.1, "eps -0.1 is out of range")):
        with pytest.raises(UserError, match=message):
            run(entry, x, y, eps=eps)
    if entry.facts.get("budget") == "minimum":  # a budget only ends it early
        run(entry, x, y, eps=None)
        return
    with pytest.raises(UserError, match=f"attack '{entry.name}' has no budget; give one"):
        run(entry, x, y, eps=None)
    assert torch.equal(run(entry, x, y, eps=0.0), x)


@each_attack
def test_a_model_that_does_not_answer_with_logits_is_refused(entry: Entry):
    x, y = images()
    net = linear()
    with pytest.raises(UserError, match=r"needs logits \(B, L\), but the model answers with a tuple"):
        run(entry, x, y, model=lambda x: (net(x), x))
    with pytest.raises(UserError, match=r"the model answers with shape \(\d+, 1, 4, 4\)"):
        run(entry, x, y, model=nn.Identity())
    with pytest.raises(UserError, match="the model answers 5 images with 1 rows"):
        run(entry, x, y, model=lambda x: net(x)[:1])
    with pytest.raises(UserError, match="the model is of type OrderedDict, which cannot be called"):
        run(entry, x, y, model=net.state_dict())


@each_attack
def test_a_torchscript_model_which_takes_no_hooks_is_attacked_as_any_function(entry: Entry):
    x, y = images()
    scripted = torch.jit.trace(linear(), x)
    torch.testing.assert_close(run(entry, x, y, model=scripted), run(entry, x, y))
    with pytest.raises(UserError, match="the labels go up to 7"):
        run(entry, x, y + CLASSES, model=scripted)


def test_a_budget_may_be_a_tensor_of_one_number():
    x, y = images()
    expected = attacks.get("fgsm")(linear(), x, y, eps=0.125)
    assert torch.equal(attacks.get("fgsm")(linear(), x, y, eps=torch.tensor(0.125)), expected)


def test_no_images_are_returned_as_they_came_and_nothing_of_the_model_is_left_changed():
    x, y = images()
    net = linear()
    assert attacks.get("pgd")(net, x[:0], y[:0], eps=0.1).shape == (0, 1, 4, 4)
    attacks.get("pgd")(net, x, y.int(), eps="8/255", generator=0)
    assert not net._forward_hooks
    with pytest.raises(UserError):
        attacks.get("pgd")(net, x, y + 4, eps=0.1)
    assert not net._forward_hooks


@each_attack
def test_gradients_are_the_attacks_own_whatever_is_around_it(entry: Entry):
    x, y = images()
    expected = run(entry, x, y)
    with torch.no_grad():
        assert torch.equal(run(entry, x, y), expected)
    net = linear()
    with torch.inference_mode():
        inside = run(entry, x + 0, y + 0, model=net)
    assert torch.equal(inside, expected)
    assert not inside.is_inference()


class InFloat64(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = linear()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).double()


@each_attack
def test_a_model_that_answers_in_another_precision_is_attacked_alike(entry: Entry):
    x, y = images()
    expected = run(entry, x, y)
    for model in (InFloat64(), lambda x: linear()(x).double()):
        made = run(entry, x, y, model=model)
        assert made.dtype == torch.float32
        torch.testing.assert_close(made, expected)


@each_attack
def test_a_model_that_passes_no_gradient_is_a_sentence_or_needs_none(entry: Entry):
    x, y = images()
    net = linear()
    if entry.facts.get("gradient_free"):
        assert run(entry, x, y, model=lambda x: net(x).detach()).shape == x.shape
        return
    with pytest.raises(UserError, match="passes no gradient back to its images"):
        run(entry, x, y, model=lambda x: net(x).detach())

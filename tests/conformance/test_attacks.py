"""Every registered attack keeps every promise: nobody has to tell this suite about a new one."""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from robustkit import attacks
from robustkit.attacks import attack
from robustkit.base.registry import Entry
from robustkit.ensembles.ensemble import Ensemble
from robustkit.functional.norms import size
from robustkit.functional.sampling import SampleGenerator
from robustkit.functional.trace import Trace
from robustkit.pipeline import request
from robustkit.study.config import EvaluateConfig

# Enough to move, cheap enough to run over the whole registry.
CHEAP = {
    "steps": 8,
    "restarts": 2,
    "queries": 40,
    "search_steps": 3,
    "initial_c": 10.0,
    "lr": 0.1,
    "population": 3,
    "generations": 2,
}
EPS = {"linf": 0.1, "l2": 0.5, "l1": 3.0, "l0": 5.0}
CASES = [(entry, norm) for entry in attack for norm in entry.facts["norms"]]
each_case = pytest.mark.parametrize(("entry", "norm"), CASES, ids=[f"{e.name}-{n}" for e, n in CASES])


class SmallNet(nn.Module):
    """A smooth network of any image size, with batch norm and dropout to catch an attack that changes the mode."""

    def __init__(self, channels: int, classes: int = 5) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 6, 3, padding=1)
        self.bn = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(6, classes)

    def forward(self, x: Tensor) -> Tensor:
        out = functional.elu(self.bn(self.conv(x * 4 - 2)))
        return 6 * self.fc(self.drop(out.amax((2, 3))))


class Counted(nn.Module):
    """Counts the rows that pass through."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.rows = model, 0

    def forward(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        return self.model(x)


def make(channels: int = 3, height: int = 8, width: int = 8, batch: int = 12) -> tuple[nn.Module, Tensor, Tensor]:
    """A model, images that reach into the corners of the box, and labels of which two thirds are the model's own."""
    generator = torch.Generator().manual_seed(channels * 100 + height + width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = SmallNet(channels)
        model.bn.running_var.uniform_(0.5, 2.0)
    model = model.double().eval()
    x = (torch.rand((batch, channels, height, width), generator=generator) * 1.4 - 0.2).clamp(0, 1).double()
    with torch.no_grad():  # boundaries among the images: a model of one class could not be fooled
        model.fc.bias -= model(x).mean(0) / 6
    y = model(x).argmax(1)
    y[::3] = (y[::3] + 1) % 5
    return model, x, y


def settings(entry: Entry, norm: str) -> dict[str, Any]:
    names = {p.name for p in entry.params}
    given: dict[str, Any] = {k: v for k, v in CHEAP.items() if k in names}
    if "norm" in names:
        given["norm"] = norm
    if "eps" in names and entry.facts.get("budget") != "minimum":
        given["eps"] = EPS[norm]
    return given


def run(
    entry: Entry, norm: str, model: nn.Module, x: Tensor, y: Tensor, ids: Tensor | None = None, **more: Any
) -> Tensor:
    ids = torch.arange(len(x)) if ids is None else ids
    return attacks.get(entry.name)(
        model, x, y, **{**settings(entry, norm), **more}, generator=SampleGenerator(3, ids, entry.name)
    )


@functools.cache
def attacked(name: str, norm: str) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """The model, images, labels and what the attack makes of them: of the same draws, always the same."""
    model, x, y = make()
    return model, x, y, run(attack.entry(name), norm, model, x, y)


@each_case
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 8, 8), (3, 6, 11), (1, 13, 5)])
def test_result_is_an_image_in_the_box_and_in_the_ball(entry: Entry, norm: str, shape: tuple[int, int, int]):
    if shape == (3, 8, 8):
        _, x, _, made = attacked(entry.name, norm)
    else:
        model, x, y = make(*shape)
        made = run(entry, norm, model, x, y)
    assert made.shape == x.shape
    assert made.dtype == x.dtype
    assert not made.requires_grad
    assert torch.isfinite(made).all()
    assert made.min() >= 0
    assert made.max() <= 1
    if "eps" in settings(entry, norm):
        assert size(made - x, norm).max() <= EPS[norm] * (1 + 1e-9)
    assert (size(made - x, "linf") > 0).any(), "the attack moved nothing"


@each_case
def test_attack_is_effective(entry: Entry, norm: str):
    model, x, y, made = attacked(entry.name, norm)
    right = model(x).argmax(1) == y
    assert (model(made).argmax(1) != y)[right].double().mean() >= 0.5


@each_case
def test_inputs_weights_mode_and_gradients_are_untouched(entry: Entry, norm: str):
    model, x, y = make()
    model.fc.weight.grad = torch.ones_like(model.fc.weight)
    model.train()
    model.drop.eval()
    model.bn.eval()  # the root alone is in training mode: an attack may neither switch it off nor on
    before, x_before, y_before = copy.deepcopy(model.state_dict()), x.clone(), y.clone()
    modes = [m.training for m in model.modules()]
    global_state = torch.random.get_rng_state()
    run(entry, norm, model, x, y)
    assert torch.equal(x, x_before)
    assert torch.equal(y, y_before)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(model.fc.weight.grad, torch.ones_like(model.fc.weight))
    assert all(p.requires_grad for p in model.parameters())
    assert model.conv.weight.grad is None
    assert torch.equal(torch.random.get_rng_state(), global_state)


@each_case
def test_same_seed_same_images(entry: Entry, norm: str):
    made = attacked(entry.name, norm)[-1]
    assert torch.equal(run(entry, norm, *make()), made)


@each_case
def test_batches_do_not_matter(entry: Entry, norm: str):
    model, x, y, whole = attacked(entry.name, norm)
    ids = torch.arange(len(x))
    parts = [run(entry, norm, model, x[r], y[r], ids[r]) for r in (slice(0, 1), slice(1, 4), slice(4, 12))]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-7, rtol=0)
    order = torch.tensor([7, 2, 11, 0, 5, 9, 1, 3, 10, 4, 8, 6])
    torch.testing.assert_close(run(entry, norm, model, x[order], y[order], order), whole[order], atol=1e-7, rtol=0)


@each_case
def test_zero_gradient_is_survived(entry: Entry, norm: str):
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor([2.0, 1.0, 0.0], dtype=x.dtype).expand(len(x), 3) + 0 * x.flatten(1).sum(
                1, keepdim=True
            )

    _, x, _ = make()
    y = torch.zeros(len(x), dtype=torch.int64)
    made = run(entry, norm, Constant(), x, y)
    assert torch.isfinite(made).all()
    assert made.min() >= 0
    assert made.max() <= 1
    if "eps" in settings(entry, norm):
        assert size(made - x, norm).max() <= EPS[norm] * (1 + 1e-9)


@each_case
def test_what_is_wrong_already_stays_wrong(entry: Entry, norm: str):
    model, x, y, made = attacked(entry.name, norm)
    wrong = model(x).argmax(1) != y
    assert wrong.sum() == 4
    assert (model(made).argmax(1) != y)[wrong].all()


@each_case
def test_queries_are_counted_for_each_sample(entry: Entry, norm: str):
    model, x, y = make()
    counted, trace = Counted(model), Trace(len(x), keep=3)
    run(entry, norm, counted, x, y, trace=trace)
    assert int(trace.forwards.sum()) == counted.rows
    assert (trace.forwards >= 1).all()
    assert (trace.backwards <= trace.forwards * 5).all()
    assert trace.history.shape[0] == 3


TARGETED = [c for c in CASES if any(p.name == "targeted" for p in c[0].params)]


@pytest.mark.parametrize(("entry", "norm"), TARGETED, ids=[f"{e.name}-{n}" for e, n in TARGETED])
def test_targeted_attack_reaches_its_target(entry: Entry, norm: str):
    model, x, _ = make(batch=24)
    target = (model(x).argmax(1) + 1 + torch.arange(24) % 4) % 5
    more = {"eps": 4 * EPS[norm]} if "eps" in settings(entry, norm) else {}
    reached = model(run(entry, norm, model, x, target, targeted=True, **more)).argmax(1) == target
    assert reached.double().mean() >= (0.15 if entry.name == "fgsm" else 0.25)  # 0 without the attack


@pytest.mark.parametrize("entry", [e for e in attack if "unlimited" in e.facts], ids=lambda e: e.name)
def test_the_values_that_do_not_limit_it_can_be_given(entry: Entry):
    unlimited = entry.facts["unlimited"]
    settings = [f"{entry.name}.{name}={value}" for name, value in unlimited.items()]
    (asked,) = request.check(EvaluateConfig(attacks=entry.name, dataset="digits", settings=settings)).attacks
    assert {name: asked.params[name] for name in unlimited} == unlimited
    assert entry.facts["budget"] == "minimum"


class Saturated(nn.Module):
    """Another architecture than SmallNet, with logits a thousand times as large as usual."""

    def __init__(self, pixels: int, classes: int = 5) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(pixels, 16), nn.Linear(16, classes)

    def forward(self, x: Tensor) -> Tensor:
        return 1e3 * self.out(torch.tanh(self.hidden((x * 4 - 2).flatten(1))))


@functools.cache
def members() -> tuple[Ensemble, Tensor, Tensor]:
    """Three members of two architectures, one of them saturated, images of one channel, their own labels."""
    small, x, _ = make(1, 6, 7, batch=10)
    other, *_ = make(1, 6, 7, batch=10)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        saturated = Saturated(42).double()
        other.fc.weight.data += 0.1 * torch.randn_like(other.fc.weight)
    with torch.no_grad():
        saturated.out.bias -= saturated(x).mean(0) / 1e3
    model = Ensemble([small, saturated, other]).eval()
    y = model(x).argmax(1)
    y[:2] = (y[:2] + 1) % 5
    assert len(set(y.tolist())) >= 3
    return model, x, y


@each_case
def test_an_ensemble_is_attacked_like_any_model(entry: Entry, norm: str):
    """Box, ball, seed, batches down to one image and what is broken, where members differ and one is saturated."""
    model, x, y = members()
    ids = torch.arange(len(x))
    made = run(entry, norm, model, x, y)
    assert made.shape == x.shape
    assert torch.isfinite(made).all()
    assert made.min() >= 0
    assert made.max() <= 1
    if "eps" in settings(entry, norm):
        assert size(made - x, norm).max() <= EPS[norm] * (1 + 1e-9)
    parts = [run(entry, norm, model, x[r], y[r], ids[r]) for r in (slice(0, 1), slice(1, 2), slice(2, 3), slice(3, 10))]
    torch.testing.assert_close(torch.cat(parts), made, atol=1e-7, rtol=0)
    assert torch.equal(run(entry, norm, model, x[:3], y[:3], ids[:3]), run(entry, norm, model, x[:3], y[:3], ids[:3]))
    fooled = model(made).argmax(1) != y
    assert fooled[:2].all()
    assert fooled[2:].double().mean() >= 0.5

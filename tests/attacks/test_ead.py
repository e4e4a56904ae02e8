"""EAD: the closed-form optimum on linear models, its update by hand, and other implementations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robustkit.attacks.ead import _least_c, ead
from robustkit.base.errors import UserError
from robustkit.functional.losses import margin
from robustkit.functional.norms import size
from robustkit.functional.trace import Trace


class TwoClass(nn.Module):
    """z = (w . x + b, 0)."""

    def __init__(self, w: Tensor, b: float) -> None:
        super().__init__()
        self.w, self.b = w, b

    def forward(self, x: Tensor) -> Tensor:
        z = x.flatten(1) @ self.w + self.b
        return torch.stack([z, torch.zeros_like(z)], 1)


@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize("rule", ["L1", "EN"])
def test_linear_optimum(rule: str, adaptive: bool):
    generator = torch.Generator().manual_seed(1)
    w = torch.randn(12, generator=generator, dtype=torch.float64)
    x = 0.4 + 0.2 * torch.rand((6, 3, 2, 2), generator=generator, dtype=torch.float64)
    w[4] = 3.0  # one pixel that is worth most
    model, y = TwoClass(w, float(0.5 - (x.flatten(1) @ w).min())), torch.zeros(6, dtype=torch.int64)
    need = x.flatten(1) @ w + model.b
    x, need = x[need < 1], need[need < 1]  # within the reach of that pixel
    assert len(x) >= 3
    # S shrinks by beta at every step, so L1 weighs beta / lr_k in effect: heavy for the L1 rule, light for the EN rule.
    beta = 0.05 if rule == "L1" else 0.0003
    made = ead(model, x, y[: len(x)], steps=500, search_steps=12, beta=beta, decision_rule=rule, adaptive=adaptive)
    close = 0.01 if adaptive else 0.05
    assert (model(made).argmax(1) == 1).all()
    delta = made - x
    if rule == "L1":  # |delta|_1 = need / |w|_inf, all of it in one pixel
        torch.testing.assert_close(size(delta, "l1"), need / 3, rtol=close, atol=0)
        assert (delta.flatten(1).abs().argmax(1) == 4).all()
    else:
        value = delta.flatten(1).square().sum(1) + beta * size(delta, "l1")
        torch.testing.assert_close(value, elastic_optimum(w, need, beta), rtol=close, atol=0)


def elastic_optimum(w: Tensor, need: Tensor, beta: float) -> Tensor:
    """Return min |d|_2^2 + beta |d|_1 under w . d = need: d_i = max(0, (m |w_i| - beta) / 2), m by bisection."""
    low, high = torch.zeros_like(need), torch.full_like(need, 100.0)
    for _ in range(100):
        m = (low + high) / 2
        d = (m[:, None] * w.abs() - beta).clamp_min(0) / 2
        enough = d @ w.abs() >= need
        low, high = torch.where(enough, low, m), torch.where(enough, m, high)
    return d.square().sum(1) + beta * d.sum(1)


def test_two_steps_by_hand():
    # z_0 = 2 a + b - 0.9, x = (0.5, 0.5): f = z_0 = 0.6 at x, grad f = (2, 1). lr 0.1, beta 0.05, c 1, two steps.
    model, x = TwoClass(torch.tensor([2.0, 1.0]).double(), -0.9), torch.full((1, 1, 1, 2), 0.5).double()
    seen: list[Tensor] = []

    def watched(images: Tensor) -> Tensor:
        seen.append(images.detach().flatten())
        return model(images)

    made = ead(
        watched, x, torch.tensor([0]), steps=2, search_steps=1, initial_c=1.0, lr=0.1, beta=0.05, adaptive=False,
        abort_early=False,
    )  # fmt: skip
    first = torch.tensor([0.5 - 0.2 + 0.05, 0.5 - 0.1 + 0.05]).double()  # S_beta(x - lr c grad f)
    rate = 0.1 * 0.5**0.5  # v_1 = x_1, for k = 0 there is no momentum
    moved = first - rate * (2 * (first - 0.5) + torch.tensor([2.0, 1.0]))
    second = moved + 0.05  # both still more than beta below x
    torch.testing.assert_close(torch.stack(seen[1:]), torch.stack([x.flatten(), first, first, second]))
    assert model(second.view_as(x)).argmax(1).item() == 0
    assert torch.equal(made, x)  # no success, no change


def test_shrinking_stops_at_the_original_pixel_and_at_the_box():
    w = torch.tensor([5.0, 0.01, -5.0, 0.01])
    x = torch.tensor([0.05, 0.5, 0.95, 0.0]).view(1, 1, 2, 2)
    made = ead(TwoClass(w, 5.0), x, torch.tensor([0]), steps=200)
    assert torch.equal(made.flatten()[[1, 3]], x.flatten()[[1, 3]])
    assert ((made >= 0) & (made <= 1)).all()
    assert TwoClass(w, 5.0)(made).argmax(1).item() == 1 or torch.equal(made, x)


def test_a_run_that_cannot_leave_x_ends_at_once():
    w = torch.tensor([1.0, 1.0, 1.0, 1.0])
    x, trace = torch.full((2, 1, 2, 2), 0.5), Trace(2, keep=2)
    y = torch.zeros(2, dtype=torch.int64)
    made = ead(TwoClass(w, -1.0), x, y, steps=1000, search_steps=4, adaptive=False, trace=trace)
    assert torch.equal(made, x)  # c goes from 0.001 to 1: lr c |grad| = 0.01 does not exceed beta
    assert trace.backwards.tolist() == [4, 4]
    assert trace.forwards.tolist() == [9, 9]


def test_skipping_hopeless_candidates_saves_passes_but_no_result():
    generator = torch.Generator().manual_seed(1)
    w = torch.randn(12, generator=generator).double()
    x = 0.4 + 0.2 * torch.rand((6, 3, 2, 2), generator=generator).double()
    trace = Trace(6)
    model = TwoClass(w, float(0.5 - (x.flatten(1) @ w).min()))
    ead(model, x, torch.zeros(6, dtype=torch.int64), steps=100, adaptive=False, abort_early=False, trace=trace)
    assert (trace.forwards > trace.backwards).all()
    assert (trace.forwards < 2 * trace.backwards).all()


@pytest.mark.parametrize("rule", ["L1", "EN"])
def test_adaptive_search_takes_less_than_half_of_the_passes_for_distances_as_small(rule: str, network, test_images):
    x, y = (t[10:24] for t in test_images)
    values, passes = [], []
    for adaptive in (True, False):
        trace = Trace(len(x))
        made = ead(network, x, y, steps=150, search_steps=6, adaptive=adaptive, decision_rule=rule, trace=trace)
        l1, l2 = size(made - x, "l1"), size(made - x, "l2")
        values.append(l1 if rule == "L1" else l2.square() + 0.01 * l1)
        passes.append(float((trace.forwards + trace.backwards).float().mean()))
    found = [v > 0 for v in values]
    assert (found[0] | ~found[1]).all()
    # Single images end in other minima, either way: on average no farther than two percent.
    assert values[0][found[1]].mean() <= 1.02 * values[1][found[1]].mean()
    assert passes[0] < passes[1] / 2


def test_c_of_the_linearised_boundary_is_the_closed_form_one():
    w = torch.tensor([3.0, -1.0, 2.0, 4.0]).double()
    x, model, y = torch.full((1, 1, 2, 2), 0.5).double(), TwoClass(w, -1.5), torch.tensor([0])
    x.view(-1)[3] = 0.0  # the pixel of largest gradient has no room
    height = -margin(model(x), y)
    g = -w.view_as(x)
    for share in (0.0, 0.4):
        away = share * -height * g / -w[:3].square().sum() * (x > 0)
        value = margin(model(x + away), y)
        c, unit = _least_c(x + away, away, value, g, 0.0, True)
        # |d|^2 - c (g / 3) d has its least at d = c g / 6, which is the boundary for c = 6 height / (9 + 1 + 4).
        torch.testing.assert_close(c, 6 * height / 14, rtol=1e-9, atol=0)
        torch.testing.assert_close(unit, g / 3)
    assert _least_c(x, away, value, g, 0.0, False)[0].item() == 1.0
    nothing, still = _least_c(x, away, value, torch.zeros_like(g), 0.01, True)
    assert torch.isfinite(nothing).all()
    assert not still.any()


@pytest.mark.parametrize(
    "given",
    [{"steps": 0}, {"search_steps": 0}, {"initial_c": -1.0}, {"lr": 0.0}, {"beta": -0.1}, {"decision_rule": "L2"}],
)
def test_settings_out_of_range_are_refused(given: dict[str, object]):
    with pytest.raises(UserError, match=next(iter(given))):
        ead(TwoClass(torch.ones(4), 0.0), torch.rand(2, 1, 2, 2), torch.zeros(2, dtype=torch.int64), **given)


class Positive(nn.Module):
    """Log-probabilities moved above 0, as torchattacks takes the maximum with 0."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) + 200


@pytest.mark.parametrize("rule", ["L1", "EN"])
def test_peers_at_equal_iterations_are_not_better(rule: str, lenets, test_images):
    foolbox, torchattacks = pytest.importorskip("foolbox"), pytest.importorskip("torchattacks")
    network = lenets.members[0]
    x, y = (t[:50] for t in test_images)
    ours = [
        ead(network, x, y, steps=60, search_steps=5, initial_c=0.1, decision_rule=rule, adaptive=adaptive)
        for adaptive in (True, False)
    ]
    theirs = foolbox.attacks.EADAttack(
        binary_search_steps=5, steps=60, initial_const=0.1, regularization=0.01, decision_rule=rule
    )
    bounded = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    made = theirs(bounded, x, y, epsilons=None)[1]
    made = torch.where(made.flatten(1).any(1)[:, None, None, None], made, x)  # its failures are black images
    for each in ours:
        not_worse(network, x, y, each, made, rule)
    make = torchattacks.EADL1 if rule == "L1" else torchattacks.EADEN
    theirs = make(Positive(network).eval(), binary_search_steps=5, max_iterations=60, initial_const=0.1, beta=0.01)
    their_images = theirs(x, y)
    for each in ours:
        not_worse(network, x, y, each, their_images, rule)


def not_worse(model: nn.Module, x: Tensor, y: Tensor, ours: Tensor, theirs: Tensor, rule: str) -> None:
    """Ours succeeds as often within one standard error, and where both do, with no larger a median (2 %)."""

    def value(made: Tensor) -> Tensor:
        l1 = size(made - x, "l1")
        return l1 if rule == "L1" else size(made - x, "l2").square() + 0.01 * l1

    with torch.no_grad():
        right = model(x).argmax(1) == y
        mine, peer = ((model(made).argmax(1) != y) & right for made in (ours, theirs))
    rate = float(peer.sum() / right.sum())
    error = (rate * (1 - rate) / float(right.sum())) ** 0.5
    assert float(mine.sum() / right.sum()) >= rate - error
    both = mine & peer
    assert both.any()
    assert value(ours)[both].median() <= 1.02 * value(theirs)[both].median()

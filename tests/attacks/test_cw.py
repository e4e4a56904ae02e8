"""C&W: the closed-form optimum on linear models, pixels at the edge of the box, and other implementations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robustkit.attacks.cw import ABOVE, _wanted_c, cw
from robustkit.base.errors import UserError
from robustkit.functional.losses import margin
from robustkit.functional.norms import size
from robustkit.functional.trace import Trace


class TwoClass(nn.Module):
    """z = (w . x + b, 0), or its log-probabilities."""

    def __init__(self, w: Tensor, b: float, log: bool = False) -> None:
        super().__init__()
        self.w, self.b, self.log = w, b, log

    def forward(self, x: Tensor) -> Tensor:
        z = x.flatten(1) @ self.w + self.b
        z = torch.stack([z, torch.zeros_like(z)], 1)
        return z.log_softmax(1) if self.log else z


def linear(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Weights, and images in the middle of the box."""
    generator = torch.Generator().manual_seed(1)
    w = torch.randn(12, generator=generator, dtype=torch.float64)
    x = 0.4 + 0.2 * torch.rand((6, 3, 2, 2), generator=generator, dtype=torch.float64)
    return w.to(dtype), x.to(dtype)


@pytest.mark.parametrize(("dtype", "log"), [(torch.float64, False), (torch.float32, True)])
@pytest.mark.parametrize("adaptive", [True, False])
def test_linear_optimum_within_one_percent(dtype: torch.dtype, log: bool, adaptive: bool):
    w, x = linear(dtype)
    model = TwoClass(w, float(0.5 - (x.flatten(1) @ w).min()), log)  # margins from 0.5 up
    y = torch.zeros(6, dtype=torch.int64)
    made = cw(model, x, y, steps=400, adaptive=adaptive)
    assert made.dtype == dtype
    assert (model(made).argmax(1) == 1).all()
    closed_form = (x.flatten(1) @ w + model.b) / w.norm()
    torch.testing.assert_close(size(made - x, "l2"), closed_form, rtol=0.01, atol=0)
    direction = (made - x).flatten(1) / size(made - x, "l2")[:, None]
    assert (direction @ (-w / w.norm()) > 0.995).all()


def test_the_c_that_the_boundary_asks_for_is_the_closed_form_one():
    w, x = linear()
    model = TwoClass(w, float(0.5 - (x.flatten(1) @ w).min()))
    y = torch.zeros(6, dtype=torch.int64)
    height = x.flatten(1) @ w + model.b
    for share in (0.1, 0.7):  # of the way to the boundary: from anywhere on it the same c follows
        delta = (-share * height[:, None] * w / w.square().sum()).view_as(x)
        point = (x + delta).requires_grad_()
        gap = margin(model(point), y)
        (g,) = torch.autograd.grad(gap.sum(), point)
        # |d|^2 + c (height + w d) has its least at d = -c w / 2: that is the boundary for c = 2 height / |w|^2.
        wanted = ABOVE * 2 * height / w.square().sum()
        torch.testing.assert_close(_wanted_c(delta, gap.detach(), g, 1.0), wanted, rtol=1e-9, atol=0)
        assert (_wanted_c(-delta, gap.detach(), g, 7.0) == 7.0).all()


def test_published_steps_are_those_of_adam_in_tanh_space():
    w, x = linear()
    model, lr, c, shrink = TwoClass(w, float(0.5 - (x.flatten(1) @ w).min())), 0.05, 3.0, 0.1
    seen: list[Tensor] = []

    def watched(images: Tensor) -> Tensor:
        seen.append(images.detach().clone())
        return model(images)

    cw(
        watched, x, torch.zeros(6, dtype=torch.int64), steps=6, search_steps=1, initial_c=c, lr=lr, shrink=shrink,
        abort_early=False, adaptive=False,
    )  # fmt: skip
    start = torch.atanh((2 * x - 1) * (1 - shrink))
    v = start.clone().requires_grad_()
    adam = torch.optim.Adam([v], lr=lr)
    for step in range(7):
        point = x + (torch.tanh(v) - torch.tanh(start)) / 2
        torch.testing.assert_close(seen[1 + step], point.detach(), rtol=1e-9, atol=1e-12)
        f = (-margin(model(point), torch.zeros(6, dtype=torch.int64))).clamp_min(0)
        adam.zero_grad()
        ((point - x).square().sum() + c * f.sum()).backward()
        adam.step()


def test_adaptive_search_takes_fewer_passes_for_distances_as_small(network, test_images):
    x, y = (t[10:24] for t in test_images)
    sizes, passes = [], []
    for adaptive in (True, False):
        trace = Trace(len(x))
        made = cw(network, x, y, steps=150, search_steps=6, adaptive=adaptive, trace=trace)
        sizes.append(size(made - x, "l2"))
        passes.append(float(trace.forwards.float().mean()))
    found = [s > 0 for s in sizes]
    assert torch.equal(*found)
    assert sizes[0][found[0]].mean() <= sizes[1][found[1]].mean()
    assert passes[0] < passes[1] / 3


def test_pixels_at_the_edge_of_the_box_move():
    w = torch.tensor([1.0, 1.0, -1.0, -2.0], dtype=torch.float64)
    x = torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64).view(1, 1, 2, 2)  # every pixel has to leave an edge
    model, y = TwoClass(w, -1.2), torch.tensor([0])
    made = cw(model, x, y, steps=400)
    torch.testing.assert_close(size(made - x, "l2"), torch.tensor([0.8 / 7**0.5], dtype=x.dtype), rtol=0.01, atol=0)
    assert (made != x).all()


def test_torchattacks_freezes_pixels_at_the_edge_of_the_box():
    torchattacks = pytest.importorskip("torchattacks")
    w = torch.tensor([1.0, 1.0, -1.0, -2.0])
    x, y = torch.tensor([1.0, 1.0, 0.0, 0.0]).view(1, 1, 2, 2), torch.tensor([0])
    theirs = torchattacks.CW(TwoClass(w, -1.2), c=10, steps=100)(x, y)
    assert torch.equal(theirs, x)
    for adaptive in (True, False):
        ours = cw(TwoClass(w, -1.2), x, y, initial_c=10.0, steps=100, search_steps=1, adaptive=adaptive)
        assert TwoClass(w, -1.2)(ours).argmax(1).item() == 1


def test_pixels_that_do_not_matter_stay_exactly_where_they_are():
    w = torch.tensor([1.0, 1.0, 0.0, 0.0])
    x = torch.tensor([0.7, 0.7, 0.0, 1.0]).view(1, 1, 2, 2)
    made = cw(TwoClass(w, -1.2), x, torch.tensor([0]), steps=200)
    assert torch.equal(made.flatten()[2:], x.flatten()[2:])
    assert (made.flatten()[:2] < x.flatten()[:2]).all()


def test_confidence_is_reached_or_the_smallest_plain_success_is_kept():
    w, x = linear()
    model = TwoClass(w, float(0.5 - (x.flatten(1) @ w).min()))
    y = torch.zeros(6, dtype=torch.int64)
    sure = cw(model, x, y, steps=400, confidence=0.3)
    assert (margin(model(sure), y) >= 0.3).all()
    closed_form = (x.flatten(1) @ w + model.b + 0.3) / w.norm()
    torch.testing.assert_close(size(sure - x, "l2"), closed_form, rtol=0.01, atol=0)
    out_of_reach = cw(model, x, y, steps=100, confidence=1e3)
    assert (model(out_of_reach).argmax(1) == 1).all()


def test_targeted_goes_to_the_target_and_leaves_what_is_there():
    generator = torch.Generator().manual_seed(2)
    weights = torch.randn((12, 4), generator=generator)
    x = 0.3 + 0.4 * torch.rand((8, 3, 2, 2), generator=generator)
    target = torch.arange(8) % 4

    def model(images: Tensor) -> Tensor:
        return 3 * images.flatten(1) @ weights

    made, there = cw(model, x, target, targeted=True, steps=300), model(x).argmax(1) == target
    assert 0 < there.sum() < 8
    assert torch.equal(made[there], x[there])
    assert (model(made).argmax(1) == target).all()


def test_neither_row_constants_nor_a_hopeless_sample_matter():
    w, x = linear()
    model = TwoClass(w, float(0.5 - (x.flatten(1) @ w).min()))
    y = torch.zeros(6, dtype=torch.int64)
    shifted = cw(lambda p: model(p) + 7 * p.flatten(1).sum(1, keepdim=True), x, y, steps=100, search_steps=4)
    torch.testing.assert_close(shifted, cw(model, x, y, steps=100, search_steps=4), atol=1e-6, rtol=0)
    never = cw(TwoClass(w, 100.0), x, y, steps=50, search_steps=4)
    assert torch.equal(never, x)


def test_another_run_is_for_samples_that_nothing_succeeded_of_and_whose_margin_rose():
    w, x = linear()
    height = x.flatten(1) @ w

    def passes(model: nn.Module, **given: bool) -> list[int]:
        trace = Trace(6)
        cw(model, x, torch.zeros(6, dtype=torch.int64), steps=20, search_steps=3, trace=trace, **given)
        return trace.backwards.tolist()

    b = float(1 - height.min())
    assert passes(TwoClass(w, b)) == [20 + 1] * 6  # one run, and the plane
    never = TwoClass(w, 100.0)  # the first run leads to the corner of the box, the second no further
    assert passes(never) == [2 * 20] * 6
    assert passes(never, abort_early=False) == [3 * 20] * 6


def test_samples_that_are_done_cost_nothing_more():
    w, x = linear()
    trace = Trace(6, keep=2)
    model = TwoClass(w, float(1e-6 - (x.flatten(1) @ w).median()))
    cw(model, x, torch.zeros(6, dtype=torch.int64), steps=100, trace=trace)
    free = model(x).argmax(1) == 1
    assert free.sum() == 2
    assert (trace.forwards[free] == 1).all()
    assert (trace.backwards[free] == 0).all()
    assert (
        trace.forwards[~free] == trace.backwards[~free] + 6
    ).all()  # x, the last iterate, 3 along the line, the plane
    assert (trace.backwards[~free] == 100 + 1).all()
    assert trace.history.shape[0] == 2


@pytest.mark.parametrize("given", [{"steps": 0}, {"search_steps": 0}, {"initial_c": 0.0}, {"lr": 0.0}, {"shrink": 1.0}])
def test_settings_out_of_range_are_refused(given: dict[str, float]):
    w, x = linear()
    with pytest.raises(UserError, match=next(iter(given))):
        cw(TwoClass(w, 0.0), x, torch.zeros(6, dtype=torch.int64), **given)


def test_foolbox_at_equal_iterations_is_not_better(network, test_images):
    foolbox = pytest.importorskip("foolbox")
    x, y = (t[:50] for t in test_images)
    theirs = foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=3, steps=80, initial_const=0.1)
    bounded = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    _, theirs, _ = theirs(bounded, x, y, epsilons=None)
    theirs = torch.where(theirs.flatten(1).any(1)[:, None, None, None], theirs, x)  # its failures are black images
    for adaptive in (True, False):
        ours = cw(network, x, y, steps=80, search_steps=3, initial_c=0.1, adaptive=adaptive)
        not_worse(network, x, y, ours, theirs, "l2")


class Positive(nn.Module):
    """Log-probabilities moved above 0: torchattacks' C&W and EAD take the maximum with 0 and cannot use them below."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) + 200


def test_torchattacks_depends_on_the_batch_and_is_not_better(network, test_images):
    torchattacks = pytest.importorskip("torchattacks")
    x, y = (t[:50] for t in test_images)
    attack = torchattacks.CW(Positive(network).eval(), c=1, steps=80)
    theirs = attack(x, y)
    assert not torch.equal(theirs, x)
    not_worse(network, x, y, cw(network, x, y, steps=80, search_steps=1, initial_c=1.0), theirs, "l2")
    alone = torch.cat([attack(x[i : i + 1], y[i : i + 1]) for i in range(8)])
    assert size(alone - theirs[:8], "l2").max() > 0.01  # it stops on the cost summed over the batch


def test_torchattacks_does_nothing_on_log_probabilities(trained, test_images):
    torchattacks = pytest.importorskip("torchattacks")
    x, y = (t[:4] for t in test_images)
    assert torch.equal(torchattacks.CW(trained, c=10, steps=30)(x, y), x)


def not_worse(model: nn.Module, x: Tensor, y: Tensor, ours: Tensor, theirs: Tensor, norm: str) -> None:
    """Ours succeeds as often within one standard error, and where both do, with no larger a mean norm (1 %)."""
    with torch.no_grad():
        right = model(x).argmax(1) == y
        mine, peer = ((model(made).argmax(1) != y) & right for made in (ours, theirs))
    rate = float(peer.sum() / right.sum())
    error = (rate * (1 - rate) / float(right.sum())) ** 0.5
    assert float(mine.sum() / right.sum()) >= rate - error
    both = mine & peer
    if both.any():
        assert size(ours - x, norm)[both].mean() <= 1.01 * size(theirs - x, norm)[both].mean()

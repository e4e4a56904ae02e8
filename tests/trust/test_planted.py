"""Planted vulnerabilities: they are there, only there, and an attack that works finds them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from trust_by_hand import Net, ensemble_of, facts_of, images, job, labelled, linear

from robustkit.attacks import attack, spec
from robustkit.data import Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.functional.losses import LOSSES
from robustkit.functional.norms import size
from robustkit.trust._planted import INSIDE, REACH, SHARP, Head, apart, features, fit_heads

SHAPE = (1, 4, 4)
N = 12
EPS = {"linf": 0.1, "l2": 0.3}
EXACT = {"atol": 1e-3, "rtol": 1e-3}


def curved(seed: int, classes: int) -> nn.Module:
    """A small network of random weights."""
    draw = torch.Generator().manual_seed(seed)
    first, second = torch.randn(32, 16, generator=draw) / 2, torch.randn(classes, 32, generator=draw) / 3
    return Net(lambda x: torch.tanh((x - 0.5).flatten(1) @ first.T) @ second.T)


def subject(classes: int = 4) -> tuple[Ensemble, Split]:
    model = ensemble_of(curved(0, classes), curved(1, classes))
    return model, labelled(model, images(N, SHAPE))


def planted(norm: str = "linf", classes: int = 4, **params):
    model, split = subject(classes)
    given = {"attack": spec("pgd", steps=50).to_json(), **params}
    return job("planted", model, split, eps=EPS[norm], norm=norm, **given)


def scores(made, points: Tensor, weights: Tensor, offsets: Tensor) -> Tensor:
    """Return the score (d, n) of each point by the head of the sample whose ball it lies in."""
    return torch.stack([(features(made.member_logits(x)) * weights).sum(1) + offsets for x in points])


def drawn_again(norm: str = "linf", classes: int = 4) -> tuple[Tensor, Tensor]:
    """Return the inner points and those at the edge that the heads were fitted to, (d, n, C, H, W)."""
    made = planted(norm, classes)
    half = made.params["draws"] // 2
    return torch.cat(list(made.noisy(INSIDE * made.eps, half))), torch.cat(list(made.edge(half)))


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_every_head_separates_the_planted_point_from_x_and_all_inner_points(norm: str, classes: int):
    weights, offsets, usable = fit_heads(planted(norm, classes))
    assert usable.all()
    again = planted(norm, classes)
    inner, edge = drawn_again(norm, classes)
    assert len(inner) == len(edge) == 100
    assert size((inner - again.x).flatten(0, 1), norm).max() <= INSIDE * EPS[norm] + 1e-6
    inside = scores(again, torch.cat([again.x[None], inner]), weights, offsets)
    outside = scores(again, edge, weights, offsets)
    torch.testing.assert_close(inside.amin(0), torch.full((N,), REACH * SHARP), **EXACT)
    # The planted point lies SHARP below the furthest inner one; some other point may be as low by chance.
    planted_at = (outside - (REACH - 1) * SHARP).abs().amin(0)
    assert planted_at.max() < 0.01
    assert (outside.amin(0) < 0).all()
    assert (outside < 0).float().mean() < 0.2  # the boundary is not where any corner would find it


def built(made, norm: str = "linf") -> Head:
    weights, offsets, _ = fit_heads(made)
    return Head(made.ensemble, made.x, made.y, weights, offsets, norm)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_head_predicts_the_true_label_or_the_next_and_never_another(classes: int):
    made = planted(classes=classes)
    head = built(made)
    with torch.no_grad():
        assert torch.equal(head(made.x).argmax(1), made.y)
        edge = drawn_again(classes=classes)[1]
        labels = made.y.repeat(len(edge))
        z = head(edge.flatten(0, 1))
    wrong = z.argmax(1) != labels
    assert wrong.view(len(edge), N).any(0).all()  # at least the planted point of each sample
    assert torch.equal(z.argmax(1)[wrong], (labels[wrong] + 1) % classes)
    assert z.shape == (len(edge) * N, classes)
    ranked = z.sort(1).values
    assert (ranked.diff(dim=1) > 0).all()  # no ties, which a loss on ranks could not tell apart


def test_each_row_meets_its_own_head_in_any_order():
    made = planted()
    head = built(made)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(3)).repeat(2)
    points = (made.x + 0.09 * torch.sign(torch.randn(made.x.shape, generator=torch.Generator().manual_seed(4))))[order]
    with torch.no_grad():
        together = head(points)
        alone = torch.cat([head(p[None]) for p in points])
        own = (features(made.member_logits(points)) * head.weights[order]).sum(1) + head.offsets[order]
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(together.gather(1, made.y[order][:, None]).squeeze(1), own, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_every_loss_has_a_gradient_on_a_head(loss: str, classes: int):
    made = planted(classes=classes)
    head = built(made)
    x = made.x.clone().requires_grad_(True)
    value = LOSSES[loss](head(x), made.y)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    assert torch.isfinite(value).all()
    assert torch.isfinite(gradient).all()
    assert (size(gradient, "linf") > 0).all()
    # It points to where the score falls, and the label with it.
    step = (made.x + 1e-3 * gradient.sign()).detach()
    with torch.no_grad():
        before, after = (head(p).gather(1, made.y[:, None]) for p in (made.x, step))
    assert (after < before).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(
    "chosen",
    [spec("pgd", steps=50), spec("pgd", steps=50, loss="dlr"), spec("apgd-dlr", steps=50), spec("apgd-ce", steps=50),
     spec("mim", steps=20), spec("fusion-swap", steps=50)],
    ids=lambda s: f"{s.name}-{s.params.get('loss', '')}",
)  # fmt: skip
def test_attacks_that_work_find_nine_in_ten(chosen, norm: str):
    model, split = subject()
    found = facts_of("planted", model, split, eps=EPS[norm], norm=norm, attack=chosen.to_json())
    assert found["usable"].sum() >= 10
    assert found["missed"].sum() <= 0.1 * found["usable"].sum()
    assert not (found["missed"] & ~found["usable"]).any()


@pytest.mark.parametrize("classes", [2, 3])
def test_attacks_work_on_few_classes(classes: int):
    model, split = subject(classes)
    for chosen in (spec("pgd", steps=50), spec("apgd-dlr", steps=50), spec("square", queries=1000)):
        found = facts_of("planted", model, split, eps=0.1, attack=chosen.to_json())
        assert found["missed"].sum() <= 0.1 * found["usable"].sum()


@pytest.fixture
def idle():
    def idle(model, x, y, *, eps: float, norm: str = "linf", steps: int = 10, generator=None, trace=None) -> Tensor:
        return x.clone()

    def timid(model, x, y, *, eps: float, norm: str = "linf", generator=None, trace=None) -> Tensor:
        """It stays among the inner points, which no head is defeated by."""
        return (x + 0.4 * eps * torch.sign(torch.randn(x.shape, generator=torch.Generator().manual_seed(0)))).clamp(
            0, 1
        )

    attack("idle", norms=("linf", "l2"))(idle)
    attack("timid", norms=("linf", "l2"))(timid)
    yield
    attack.remove("idle")
    attack.remove("timid")


@pytest.mark.parametrize("name", ["idle", "timid"])
def test_an_attack_that_goes_nowhere_finds_none(idle, name: str):
    model, split = subject()
    found = facts_of("planted", model, split, eps=0.1, attack=spec(name).to_json())
    assert found["usable"].sum() >= 10
    assert np.array_equal(found["missed"], found["usable"])


def test_a_model_that_looks_at_nothing_has_no_head():
    model = ensemble_of(lambda x: torch.tensor([[1.0, 0.0, 0.0]]).expand(len(x), 3))
    split = labelled(model, images(N, SHAPE))
    found = facts_of("planted", model, split, eps=0.1, attack=spec("pgd").to_json())
    assert not found["usable"].any()
    assert not found["missed"].any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_where_logits_are_not_finite_there_is_no_head(bad: float):
    sound = linear(3, shape=SHAPE)
    model = ensemble_of(lambda x: torch.where(x[:, 0, 0, :1] > 0.5, bad, sound(x)))
    x = images(4, SHAPE)
    x[:, 0, 0, 0] = torch.tensor([0.2, 0.8, 0.3, 0.52])  # the last one's ball is poisoned in part
    split = Split(x, torch.zeros(4, dtype=torch.int64))
    made = job("planted", model, split, eps=0.1, attack=spec("pgd").to_json())
    assert fit_heads(made)[2].tolist() == [True, False, True, False]


@pytest.mark.parametrize(("norm", "values", "kept"), [
    ("linf", [0.0, 0.1, 0.21, 0.5, 0.3], [True, False, True, True, False]),
    ("linf", [0.5, 0.5, 0.5], [True, False, False]),
    ("linf", [0.0, 0.2, 0.21], [True, False, True]),  # 0.2 touches the first ball
    ("l2", [0.0, 0.02, 0.04, 0.06], [True, False, False, True]),  # sixteen pixels: four times as far
])  # fmt: skip
def test_balls_that_are_kept_do_not_meet(norm: str, values: list[float], kept: list[bool]):
    x = torch.tensor(values).view(-1, 1, 1, 1).expand(-1, *SHAPE)
    assert apart(x, 0.1, norm).tolist() == kept


def test_images_too_close_to_each_other_share_no_batch_of_heads():
    model = ensemble_of(curved(0, 3), curved(1, 3))
    x = images(6, SHAPE)
    twins = labelled(model, torch.cat([x, x + 0.05]))
    found = facts_of("planted", model, twins, eps=0.1, attack=spec("pgd", steps=50).to_json())
    assert found["usable"].tolist() == [True] * 6 + [False] * 6


def test_heads_do_not_depend_on_who_else_is_there():
    model, split = subject()
    given = {"attack": spec("pgd", steps=50).to_json()}
    whole = fit_heads(job("planted", model, split, **given))
    part = fit_heads(job("planted", model, split.select(torch.tensor([2, 9])), **given))
    torch.testing.assert_close(whole[0][[2, 9]], part[0], **EXACT)
    torch.testing.assert_close(whole[1][[2, 9]], part[1], **EXACT)

"""ARC against ensembles whose members are drawn: closed forms, and where the gradient of a mean loss stands still."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robustkit import attacks
from robustkit.attacks import spec
from robustkit.base.errors import UserError
from robustkit.ensembles.ensemble import Ensemble
from robustkit.functional.norms import size
from robustkit.functional.sampling import SampleGenerator
from robustkit.functional.trace import Trace
from robustkit.pipeline.evaluate import evaluate
from robustkit.pipeline.request import check_fusions
from robustkit.study.config import EvaluateConfig

DIMENSIONS = 64


class Plane(nn.Module):
    """Two classes on either side of a plane, z = (<w, x> + b, 0)."""

    def __init__(self, w: Tensor, b: float) -> None:
        super().__init__()
        self.register_buffer("w", w)
        self.b = b

    def forward(self, x: Tensor) -> Tensor:
        value = x.flatten(1) @ self.w + self.b
        return torch.stack([value, torch.zeros_like(value)], 1)


def opposed(shares: tuple[float, ...] = (0.5, 0.5), turn: float = 0.2) -> tuple[Ensemble, Tensor, Tensor]:
    """Two planes whose normals almost contradict each other, and points between them that both get right."""
    generator = torch.Generator().manual_seed(4)
    across = torch.randn(DIMENSIONS, generator=generator, dtype=torch.float64)
    along = torch.randn(DIMENSIONS, generator=generator, dtype=torch.float64)
    along -= (along @ across) / (across @ across) * across
    across, along = across / across.norm(), along / along.norm()
    one, two = turn * along + across, turn * along - across
    x = 0.5 + 0.05 * (torch.rand((100, 1, 8, 8), generator=generator, dtype=torch.float64) - 0.5)
    middle = torch.full((DIMENSIONS,), 0.5, dtype=torch.float64)
    planes = [Plane(w / w.norm(), float(0.2 - middle @ w / w.norm())) for w in (one, two)]
    fusion = f"random:{','.join(map(str, shares))}"
    return Ensemble(planes, fusion).eval(), x, torch.zeros(100, dtype=torch.int64)


def expected(ensemble: Ensemble, x: Tensor, y: Tensor) -> Tensor:
    """The expected accuracy on each sample, member by member."""
    right = (ensemble.member_logits(x).argmax(2) == y).double()
    return torch.tensor(ensemble.chances, dtype=torch.float64) @ right


def run(name: str, ensemble: nn.Module, x: Tensor, y: Tensor, **more: object) -> Tensor:
    return attacks.get(name)(ensemble, x, y, generator=SampleGenerator(0, torch.arange(len(x)), name), **more)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_one_plane_is_crossed_exactly_where_it_is_in_reach(norm: str):
    ensemble, x, y = opposed()
    plane = ensemble.members[0]
    distance = plane(x)[:, 0] / (plane.w.abs().sum() if norm == "linf" else plane.w.norm())
    eps = float(distance.median())
    for model in (Ensemble([plane], "random"), plane):
        made = run("arc", model, x, y, eps=eps, norm=norm)
        assert size(made - x, norm).max() <= eps * (1 + 1e-9)
        wrong = plane(made).argmax(1) != y
        clear = (distance - eps).abs() > 1e-3 * eps
        assert torch.equal(wrong[clear], distance[clear] < eps)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.05), ("l2", 0.6)])
def test_a_mean_loss_stands_still_where_members_contradict_each_other_and_arc_does_not(norm: str, eps: float):
    """Each plane is in reach of every point, both are of none: the least that there can be is a half."""
    ensemble, x, y = opposed()
    for plane in ensemble.members:
        reach = plane.w.abs().sum() if norm == "linf" else plane.w.norm()
        assert (plane(x)[:, 0] < eps * reach).all()
    mean = expected(ensemble, run("pgd", ensemble, x, y, eps=eps, norm=norm, steps=20), y).mean()
    arc = expected(ensemble, run("arc", ensemble, x, y, eps=eps, norm=norm), y).mean()
    assert mean >= 0.9
    assert arc == 0.5


def test_the_likelier_member_goes_first():
    ensemble, x, y = opposed((0.3, 0.7))
    left = expected(ensemble, run("arc", ensemble, x, y, eps=0.1), y)
    torch.testing.assert_close(left, torch.full((100,), 0.3, dtype=torch.float64))


@pytest.mark.parametrize("members", [2, 3])
def test_of_trained_members_arc_leaves_less_than_averaged_losses(
    members: int, trained: Ensemble, test_images: tuple[Tensor, Tensor]
):
    """.485 by PGD against .45 by ARC of two members, .487 against .46 of three."""
    x, y = (part[:100] for part in test_images)
    ensemble = Ensemble(list(trained.members)[:members], "random").eval()
    mean = expected(ensemble, run("pgd", ensemble, x, y, eps=0.1, steps=20), y).mean()
    arc = expected(ensemble, run("arc", ensemble, x, y, eps=0.1), y).mean()
    assert expected(ensemble, x, y).mean() > 0.9
    assert arc <= mean - 0.015


def test_it_never_leaves_more_than_the_clean_image(trained: Ensemble, test_images: tuple[Tensor, Tensor]):
    x, y = (part[:50] for part in test_images)
    ensemble = Ensemble(list(trained.members), "random:0.2,0.5,0.3").eval()
    for eps in (0.0, 0.02):
        made = run("arc", ensemble, x, y, eps=eps, steps=3)
        assert (expected(ensemble, made, y) <= expected(ensemble, x, y)).all()


def test_all_answers_are_made_the_target(trained: Ensemble, test_images: tuple[Tensor, Tensor]):
    x, y = (part[:50] for part in test_images)
    ensemble = Ensemble(list(trained.members)[:2], "random").eval()
    made = run("arc", ensemble, x, (y + 1) % 10, eps=0.3, targeted=True)
    assert expected(ensemble, made, (y + 1) % 10).mean() > 0.5


def test_pgd_goes_on_until_no_answer_is_right_and_keeps_what_leaves_the_fewest(
    trained: Ensemble, test_images: tuple[Tensor, Tensor]
):
    """Were it to stop where the likeliest answer is wrong, every such sample would keep the others' share."""
    x, y = (part[:100] for part in test_images)
    ensemble = Ensemble(list(trained.members), "random:0.6,0.2,0.2").eval()
    left = expected(ensemble, run("pgd", ensemble, x, y, eps=0.15), y)
    stopped = expected(ensemble, run("pgd", lambda points: ensemble(points), x, y, eps=0.15), y)
    assert (left <= stopped).all()
    assert ((left < 1e-9) & (stopped > 0.1) & (stopped < 0.5)).any()


def test_members_that_are_not_drawn_count_alike_and_a_view_of_one_is_its_only_one(
    trained: Ensemble, test_images: tuple[Tensor, Tensor]
):
    x, y = (part[:20] for part in test_images)
    pair = list(trained.members)[:2]
    fixed, drawn = (Ensemble(pair, fusion).eval() for fusion in ("mean-prob", "random"))
    assert torch.equal(run("arc", fixed, x, y, eps=0.1), run("arc", drawn, x, y, eps=0.1))
    torch.testing.assert_close(
        run("arc", fixed.view("member-1"), x, y, eps=0.1), run("arc", pair[1], x, y, eps=0.1), atol=1e-5, rtol=0
    )


def test_a_pass_of_all_members_is_one_forward(trained: Ensemble, test_images: tuple[Tensor, Tensor]):
    ensemble, trace = Ensemble(list(trained.members), "random").eval(), Trace(4)
    right = expected(ensemble, *test_images) == 1
    x, y = (part[right][:4] for part in test_images)
    run("arc", ensemble, x, y, eps=0.0, steps=1, targets=3, trace=trace)
    # The clean image, the start, and of each member its boundary and what the step has made of all.
    assert trace.forwards.tolist() == [2 + 3 * 2] * 4
    assert trace.backwards.tolist() == [3 * 3] * 4


def test_the_command_line_refuses_it_where_no_member_is_drawn():
    check_fusions([spec("arc")], {"a": "random:0.9,0.1"})
    check_fusions([spec("pgd")], {"a": "mean-prob"})
    with pytest.raises(UserError, match="'arc' is for an ensemble whose members are drawn, but .* 'b' is median"):
        check_fusions([spec("pgd"), spec("arc")], {"a": "random", "b": "median"})
    for more in ({}, {"fusion": "mean-logit"}):
        with pytest.raises(UserError, match="'baseline' is mean-.*; add --fusion random, or leave arc out"):
            evaluate(EvaluateConfig(attacks="arc", **more))

"""Ensembles whose members are drawn: the distribution of answers is exact, and what does not fit is one sentence."""

from __future__ import annotations

import pytest
import torch

from robustkit.base import chances
from robustkit.base.errors import UserError
from robustkit.ensembles.ensemble import Ensemble
from robustkit.ensembles.fusion import Draw, mean_prob
from robustkit.pipeline import models_under_test
from robustkit.pipeline.request import check, check_training
from robustkit.study.config import EvaluateConfig, TrainConfig

P = (0.6, 0.3, 0.1)


@pytest.fixture
def logits() -> torch.Tensor:
    return 3 * torch.randn((3, 40, 5), generator=torch.Generator().manual_seed(2))


def test_the_output_is_the_log_of_the_distribution_of_answers(logits: torch.Tensor):
    fused = Draw(P)(logits).double().exp()
    for at in range(40):
        answers = [0.0] * 5
        for chance, member in zip(P, logits[:, at], strict=True):
            answers[int(member.argmax())] += chance
        assert fused[at].tolist() == pytest.approx(answers, abs=1e-7)
    assert torch.isfinite(Draw(P)(logits)).all()


def test_a_member_that_is_never_drawn_says_nothing(logits: torch.Tensor):
    z = logits.clone().requires_grad_()
    draw = Draw((0.5, 0.0, 0.5))
    torch.testing.assert_close(draw(z), Draw()(z[[0, 2]]))
    (gradient,) = torch.autograd.grad(draw(z)[:, 0].sum(), z)
    assert not gradient[1].any()
    assert torch.isfinite(gradient).all()


def test_the_gradient_is_that_of_the_mean_probability(logits: torch.Tensor):
    z = logits.clone().requires_grad_()
    (drawn,) = torch.autograd.grad(Draw(P)(z)[:, 0].sum(), z)
    weighted = torch.einsum("m,mbl->bl", torch.tensor(P), z.softmax(-1)).log()
    (mean,) = torch.autograd.grad(weighted[:, 0].sum(), z)
    torch.testing.assert_close(drawn, mean)
    torch.testing.assert_close(Draw().smooth(logits), mean_prob(logits))


def test_attacks_are_shown_a_loss_that_keeps_its_gradient_where_all_members_agree():
    z = torch.tensor([[[4.0, 0.0, -1.0]], [[6.0, 1.0, 0.0]]], requires_grad=True)
    ensemble, y = Ensemble([torch.nn.Identity()] * 2, "random"), torch.tensor([0])
    (lost,) = torch.autograd.grad(torch.nn.functional.cross_entropy(ensemble.fuse(z), y), z)
    (kept,) = torch.autograd.grad(torch.nn.functional.cross_entropy(ensemble.shown(z), y), z)
    assert lost.abs().max() < 1e-30
    assert (kept[:, 0, 0] < 0).all()


def test_probabilities_are_part_of_the_name_and_of_the_key():
    members = [torch.nn.Linear(2, 2) for _ in range(2)]
    keys = set()
    for fusion in ("random", "random:0.9,0.1", "random:0.8,0.2", "mean-prob"):
        ensemble = Ensemble(members, fusion)
        assert ensemble.fusion == fusion
        assert Ensemble(members, ensemble.rule).fusion == fusion
        keys.add(models_under_test.record_of("one", "baseline", {}, ["a", "a"], ensemble).key)
    assert len(keys) == 4
    assert Ensemble(members, "random").chances == (0.5, 0.5)
    assert Ensemble(members, "random: 1/3, 2/3").chances == pytest.approx((1 / 3, 2 / 3))
    assert Ensemble(members, "mean-prob").chances == ()


@pytest.mark.parametrize(
    ("fusion", "said"),
    [
        ("random:0.9,0.2", "fusion rule 'random:0.9,0.2' has probabilities that sum to 1.1; give one from 0 to 1"),
        ("random:1.1,-0.1", "has the probability -0.1, which is negative; give one"),
        ("random:0.9,ten", "probability 'ten' is not a number"),
        ("random:1", "fusion rule 'random:1' has 1 probabilities, but the ensemble has 3 members; give 3, or"),
        ("random:", "probability '' is not a number"),
        ("randon", "unknown fusion rule 'randon': did you mean 'random'"),
    ],
)  # fmt: skip
def test_probabilities_that_do_not_fit_are_one_sentence(fusion: str, said: str):
    with pytest.raises(UserError, match=said):
        check(EvaluateConfig(fusion=fusion))
    with pytest.raises(UserError, match=said):
        check_training(TrainConfig(fusion=fusion))
    with pytest.raises(UserError, match=said):
        Ensemble([torch.nn.Identity()] * 3, fusion)


def test_probabilities_that_fit_are_taken():
    check(EvaluateConfig(fusion="random:0.5,0.25,0.25"))
    check(EvaluateConfig(fusion="random:0.5,0.5000004", members=2))
    assert sum(chances.read("random:0.333333,0.333333,0.333334")) == pytest.approx(1, abs=1e-15)
    with pytest.raises(UserError, match="has 2 probabilities, but the ensemble has 5 members"):
        check(EvaluateConfig(fusion="random:0.5,0.5", members=5))

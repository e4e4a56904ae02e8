"""Fusion rules against the definitions in probabilities, their order under ties, and their gradients."""

from __future__ import annotations

import statistics

import pytest
import torch

from robustkit.base import names
from robustkit.base.errors import UserError
from robustkit.ensembles.ensemble import Ensemble
from robustkit.ensembles.fusion import FUSIONS


def crossed_one_by_one(logits: torch.Tensor) -> torch.Tensor:
    """Algorithm 1 of arXiv:2408.05446 in plain loops: largest of each member away, of each class away, the median."""
    fused = torch.zeros(logits.shape[1:], dtype=logits.dtype)
    for at, sample in enumerate(logits.unbind(1)):
        rows = [[float(value) - max(member) for value in member] for member in sample.tolist()]
        for label, column in enumerate(zip(*rows, strict=True)):
            fused[at, label] = statistics.median(value - max(column) for value in column)
    return fused


@pytest.fixture
def logits() -> torch.Tensor:
    return 2 * torch.randn((4, 50, 6), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_definitions_in_probabilities(logits: torch.Tensor):
    p = logits.softmax(2)
    geometric = p.prod(0) ** 0.25
    middle = p.sort(0).values[1:3].mean(0)
    expected = {
        "mean-prob": p.mean(0),
        "mean-logit": logits.mean(0).softmax(1),
        "geometric-mean": geometric / geometric.sum(1, keepdim=True),
        "median": middle / middle.sum(1, keepdim=True),
        "majority": (torch.nn.functional.one_hot(p.argmax(2), 6).sum(0) + p.mean(0)) / 5,
        "random": torch.nn.functional.one_hot(p.argmax(2), 6).double().mean(0),
        "crossmax": crossed_one_by_one(logits).softmax(1),
    }
    for name, fuse in FUSIONS.items():
        torch.testing.assert_close(fuse(logits).exp(), expected[name])
        torch.testing.assert_close(fuse(logits).exp().sum(1), torch.ones(50, dtype=torch.float64))
    odd = logits[:3]
    torch.testing.assert_close(FUSIONS["crossmax"](odd).exp(), crossed_one_by_one(odd).softmax(1))
    middle = odd.softmax(2).sort(0).values[1]
    torch.testing.assert_close(FUSIONS["median"](odd).exp(), middle / middle.sum(1, keepdim=True))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_crossmax_does_not_leave_it_to_rounding_which_of_tied_classes_is_answered(scale: float):
    """Three members all answer class 2; on class 0 two are equally far behind, so that algorithm 1 ties it with 2."""
    z = scale * torch.tensor([[[-6.0, -3.0, 0.0]], [[-2.4, -4.0, 0.0]], [[-2.4, -5.0, 0.0]]])
    tied = crossed_one_by_one(z)
    assert tied[0, 0] == tied[0, 2] == 0
    noise = torch.randn((3, 100, 3), generator=torch.Generator().manual_seed(0))
    assert FUSIONS["crossmax"](z * (1 + 1e-7 * noise)).argmax(1).tolist() == [2] * 100
    # It leads by what rounding may be, and stays as likely as the other.
    torch.testing.assert_close(FUSIONS["crossmax"](z), tied.log_softmax(1), atol=1e-4 * scale, rtol=1e-4)
    swapped = z[..., [2, 1, 0]]
    assert FUSIONS["crossmax"](swapped * (1 + 1e-7 * noise)).argmax(1).tolist() == [0] * 100
    # A difference that is none of rounding decides as published, whatever the mean says.
    apart = scale * torch.tensor([[[-0.1, -9.0, 0.0]], [[-0.5, -8.0, 0.0]], [[0.0, -7.0, -9.0]]])
    assert apart.mean(0).argmax(1).tolist() == [0]
    assert FUSIONS["crossmax"](apart).argmax(1).tolist() == [2]
    expected = crossed_one_by_one(apart).log_softmax(1)
    torch.testing.assert_close(FUSIONS["crossmax"](apart), expected)


@pytest.mark.parametrize("name", list(FUSIONS))
def test_one_member_is_its_own_ensemble(name: str, logits: torch.Tensor):
    assert torch.equal(FUSIONS[name](logits[:1]).argmax(1), logits[0].argmax(1))


@pytest.mark.parametrize("name", list(FUSIONS))
def test_extreme_logits_neither_saturate_nor_lose_the_gradient(name: str):
    z = torch.tensor([[[90.0, 0.0, -50.0]], [[80.0, 10.0, -40.0]], [[95.0, 5.0, -45.0]]], requires_grad=True)
    out = FUSIONS[name](z)
    assert torch.isfinite(out).all()
    (gradient,) = torch.autograd.grad(-out[0, 1] + out[0, 2], z)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0.1


def test_majority_counts_votes_and_breaks_ties_by_the_summed_probability():
    sure, unsure = [4.0, 0.0, 0.0], [0.0, 0.2, 0.0]
    two_against_one = torch.tensor([[sure], [unsure], [unsure]])
    assert FUSIONS["majority"](two_against_one).argmax(1).item() == 1
    assert FUSIONS["mean-prob"](two_against_one).argmax(1).item() == 0
    assert FUSIONS["majority"](torch.tensor([[unsure], [sure]])).argmax(1).item() == 0
    assert FUSIONS["majority"](torch.tensor([[sure], [unsure]])).argmax(1).item() == 0


def test_majority_keeps_the_order_of_classes_without_a_vote_whose_probability_underflows():
    z = torch.tensor([[[0.0, -200.0, -300.0]], [[0.0, -200.0, -300.0]]])
    fused = FUSIONS["majority"](z)[0]
    torch.testing.assert_close(fused[1:], torch.tensor([-200.0, -300.0]) - torch.tensor(3.0).log())


def test_majority_has_the_gradient_of_the_mean_probability(logits: torch.Tensor):
    z = logits.clone().requires_grad_()
    (votes,) = torch.autograd.grad(FUSIONS["majority"](z)[:, 0].sum(), z)
    (mean,) = torch.autograd.grad(FUSIONS["mean-prob"](z)[:, 0].sum(), z)
    assert torch.equal(votes, mean)


def test_names_known_without_torch_are_the_rules_there_are():
    assert tuple(FUSIONS) == names.FUSIONS
    with pytest.raises(UserError, match="unknown fusion rule 'mean_prob': did you mean 'mean-prob'"):
        Ensemble([torch.nn.Identity()], "mean_prob")

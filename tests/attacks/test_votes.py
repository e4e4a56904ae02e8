"""Votes: how likely it is that members agree, by hand and as what it is the limit of; what it breaks."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from member_models import Shown, logits, mixed, standing
from torch import Tensor
from torch.nn import functional

from robustkit import attacks
from robustkit.attacks._ascent import PULL, ascend, gliding
from robustkit.attacks._votes import SHARP, SOFT, agreement, ballots, dissent
from robustkit.attacks.quorum import groups, turns
from robustkit.base.names import FUSIONS, VOTES
from robustkit.ensembles.ensemble import Ensemble


def by_hand(z: Tensor, softness: float, own: bool) -> Tensor:
    """The same in plain loops, over all groups of members."""
    members, rows, classes = z.shape
    found = torch.zeros(rows, classes, dtype=z.dtype)
    for row in range(rows):
        gaps = []
        for m in range(members):
            first, second, *_ = sorted(z[m, row].tolist(), reverse=True)
            gaps.append(first - second)
        scale = [g if own else sum(gaps) / members for g in gaps]
        p = [torch.softmax(z[m, row] / (softness * scale[m]), 0).tolist() for m in range(members)]
        for group in itertools.combinations(range(members), members // 2 + 1):
            for label in range(classes):
                found[row, label] += math.prod(p[m][label] for m in group)
    return found.log()


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("members", [1, 2, 3, 4, 5])
def test_agreement_by_hand(members: int, own: bool):
    z = logits(members)
    torch.testing.assert_close(agreement(z, 0.7, own), by_hand(z, 0.7, own))


@pytest.mark.parametrize("members", [2, 3, 4, 5])
def test_dissent_by_hand(members: int):
    z, y = logits(members), torch.arange(12) % 5
    expected = []
    for row, label in enumerate(y.tolist()):
        gaps = [a - b for a, b, *_ in (sorted(z[m, row].tolist(), reverse=True) for m in range(members))]
        scale = 0.6 * sum(gaps) / members
        p = [torch.softmax(z[m, row] / scale, 0)[label].item() for m in range(members)]
        total = 0.0
        for witness in range(members):
            others = [1 - p[m] for m in range(members) if m != witness]
            groups_of = itertools.combinations(others, min(members // 2 + 1, members - 1))
            total += p[witness] * sum(map(math.prod, groups_of))
        expected.append(math.log(total))
    torch.testing.assert_close(dissent(z, y, 0.6), torch.tensor(expected, dtype=z.dtype))


def test_crossmax_falls_to_dissent_where_nobody_agrees():
    """Two members err, each its own way, and the third is sure: the label loses, to a class that nobody answered."""
    z = torch.tensor([[[3.0, 6.0, 0.0, 2.0]], [[3.0, 0.0, 6.0, 2.0]], [[6.0, 0.0, 0.0, 2.0]]])
    y = torch.tensor([0])
    assert Ensemble([torch.nn.Identity()] * 3, "crossmax").fuse(z).argmax(1).item() == 3
    alike = z.clone()
    alike[2, 0] = torch.tensor([4.0, 6.0, 0.0, 0.0])  # the third errs as well, nearly as far
    assert dissent(z, y, SHARP) > dissent(alike, y, SHARP)


def test_sharp_answers_agree_where_a_majority_votes():
    z = logits(3, n=200)
    votes = functional.one_hot(z.argmax(-1), 5).sum(0)
    agreed = agreement(z, 0.02, own=True).exp()
    assert torch.equal(agreed > 0.5, votes >= 2)
    assert {1, 2, 3} <= set(votes.max(1).values.tolist())


def test_the_gradient_goes_to_the_member_that_is_yet_to_be_won():
    """Two lean towards class 1, one of them has it; the third is far from it."""
    z = torch.tensor([[[0.0, 1.0, -3.0]], [[1.0, 0.0, -3.0]], [[1.0, -4.0, -3.0]]]).requires_grad_()
    (gradient,) = torch.autograd.grad(agreement(z, 0.2, own=False)[0, 1], z)
    won, near, far = gradient.abs().amax((1, 2)).tolist()
    assert near > 10 * won
    assert near > 10 * far


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
def test_gradients_are_finite_and_no_size_of_logits_changes_where_they_point(size: float):
    z = logits()
    y, found = z[0].argmax(1), []
    for factor in (1.0, size):
        for read in (*ballots("median", targeted=False), *ballots("crossmax", targeted=False)):
            given = (factor * z).requires_grad_()
            judged, (ascended,) = read(Shown(given, "median"), torch.rand(12, 1, 2, 2), y)
            assert torch.equal(judged, Shown(given, "median").fuse(given))
            (gradient,) = torch.autograd.grad(functional.cross_entropy(ascended, y, reduction="sum"), given)
            assert torch.isfinite(gradient).all()
            assert (gradient.abs().amax((0, 2)) > 0).all()
            found.append(functional.normalize(gradient.transpose(0, 1).flatten(1)))
    torch.testing.assert_close(found[:6], found[6:])


def test_members_that_tie_leave_finite_gradients():
    z = torch.zeros(3, 2, 5).requires_grad_()
    (gradient,) = torch.autograd.grad(agreement(z, SHARP, own=True)[:, 1].sum(), z)
    assert torch.isfinite(gradient).all()


def test_each_ballot_by_hand():
    z, y = logits(), torch.arange(12) % 5
    x = torch.rand(12, 1, 2, 2)
    own, mean = agreement(z, SOFT, own=True), agreement(z, SHARP, own=False)
    without = [torch.log1p(s.scatter(1, y[:, None], float("-inf")).exp().sum(1)) for s in (own, mean)]
    first = {rule: functional.cross_entropy(mean, y, reduction="none") for rule in ("median", "majority")}
    first["crossmax"] = torch.log1p(dissent(z, y, SHARP).exp())
    for rule in VOTES:
        shown = Shown(z, rule)
        for read, value in zip(ballots(rule, targeted=False), [first[rule], *without], strict=True):
            _, (ascended,) = read(shown, x, y)
            torch.testing.assert_close(functional.cross_entropy(ascended, y, reduction="none"), value)
        for read, agreed in zip(ballots(rule, targeted=True), (mean, own, mean), strict=True):
            torch.testing.assert_close(read(shown, x, y)[1], agreed[None])


@pytest.mark.parametrize("targeted", [False, True])
def test_votes_take_turns_with_all_members_but_one(targeted: bool):
    views = {rule: turns(Shown(logits(), rule), targeted) for rule in FUSIONS if rule != "random"}
    assert {rule: len(found) for rule, found in views.items() if rule in VOTES} == {
        "majority": 12, "median": 12, "crossmax": 3,
    }  # fmt: skip
    assert all(len(found) == len(groups(3, targeted)) for rule, found in views.items() if rule not in VOTES)
    assert len(turns(Shown(logits(1), "majority"), targeted)) == 2
    assert len(turns(lambda x: x, targeted)) == 2
    x, y = torch.rand(12, 1, 2, 2), torch.arange(12) % 5
    shown = Shown(logits(), "median")
    for at, left_out in ((3, 2), (7, 1), (11, 0)):
        torch.testing.assert_close(
            views["median"][at](shown, x, y)[1], groups(3, targeted)[1 + left_out](shown, x, y)[1]
        )


@pytest.mark.parametrize("rule", VOTES)
def test_breaks_no_less_than_groups_of_members_do(trained: Ensemble, lenets: Ensemble, test_images, rule: str):
    """Of members that differ in architecture, with as many passes; of crossmax it breaks more."""
    x, y = (part[:60] for part in test_images)
    model = mixed(trained, lenets, rule).requires_grad_(False)
    common = {"eps": 0.09, "generator": 0}
    left = standing("quorum", model, [x, y], steps=8, restarts=4, **common)
    made = ascend(
        model, x, y, steps=8, step_size=gliding(0.09, 8), norm="linf", loss="ce", targeted=False, randomly=True,
        pull=PULL, readouts=groups(3, False)[:4], **common,
    )  # fmt: skip
    other = int((model(made).argmax(1) == y).sum())
    assert 5 <= left <= other
    assert left < other or rule != "crossmax"


@pytest.mark.parametrize("rule", VOTES)
def test_aims(trained: Ensemble, test_images, rule: str):
    x = test_images[0][:30]
    model = Ensemble(list(trained.members), rule).eval().requires_grad_(False)
    target = trained(x).topk(2).indices[:, 1]  # crossmax ranks classes behind the first by agreement alone
    common = {"eps": 0.12, "steps": 12, "restarts": 4, "targeted": True}
    left = standing("quorum", model, [x, target], **common)
    assert left <= 20
    assert left <= standing("pgd", model, [x, target], **common)


def test_is_the_attack_of_the_command(trained: Ensemble, test_images):
    """The wrappers that an evaluation puts around an ensemble do not hide that it votes."""
    from robustkit.ensembles.fastpath import prepare
    from robustkit.functional.batching import Batched
    from robustkit.functional.eot import Averaged

    vote = Ensemble(list(trained.members), "majority").eval().requires_grad_(False)
    shown = prepare(vote, test_images[0][:8]).exact
    assert all(len(turns(model, False)) == 12 for model in (vote, shown, Batched(shown, 7), Averaged(vote, 2)))
    x, y = test_images[0][:20], test_images[1][:20]
    common = {"eps": 0.1, "steps": 6, "restarts": 4, "generator": 0}
    whole = attacks.get("quorum")(vote, x, y, **common)
    torch.testing.assert_close(attacks.get("quorum")(Batched(vote, 7), x, y, **common), whole, atol=1e-6, rtol=0)

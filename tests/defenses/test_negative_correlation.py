"""GNCL, balanced and NCL against NumPy with the L x L matrix, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from robustkit import defenses
from robustkit.base.errors import UserError
from robustkit.defenses import Outputs
from robustkit.defenses.balanced import balanced
from robustkit.defenses.gncl import gncl
from robustkit.defenses.ncl import ncl
from robustkit.ensembles.fusion import FUSIONS

MEMBERS, BATCH, CLASSES = 3, 8, 6


@pytest.fixture
def given() -> Outputs:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn((MEMBERS, BATCH, CLASSES), generator=generator, dtype=torch.float64)
    return Outputs(logits, torch.randint(0, CLASSES, (BATCH,), generator=generator))


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def mean_ce(z: np.ndarray, y: Tensor) -> float:
    return float(-np.log(softmax(z))[:, np.arange(BATCH), y.numpy()].mean())


def consensus_of(name: str, z: np.ndarray) -> np.ndarray:
    p = softmax(z)
    if name == "mean":
        return z.mean(0)
    if name == "geometric-mean":
        return np.log(np.exp(np.log(p).mean(0)))
    if name == "median":
        return np.log(np.median(p, 0))
    votes = np.stack([(p.argmax(2) == label).sum(0) for label in range(CLASSES)], 1)
    return np.log((votes + p.mean(0)) / (MEMBERS + 1))


@pytest.mark.parametrize("consensus", ["mean", "median", "geometric-mean", "majority"])
@pytest.mark.parametrize("masked", [False, True])
def test_gncl_is_the_quadratic_form_of_its_equation(given: Outputs, consensus: str, masked: bool):
    z = given.logits.numpy()
    f = consensus_of(consensus, z)
    p = softmax(f)
    total = 0.0
    for b in range(BATCH):
        curvature = np.diag(p[b]) - np.outer(p[b], p[b])
        for m in range(MEMBERS):
            d = z[m, b] - f[b]
            right = z[m, b].argmax() == int(given.y[b])
            total += d @ curvature @ d * (right or not masked)
    expected = mean_ce(z, given.y) - 0.7 / (2 * MEMBERS) * total / BATCH
    assert total > 0.1
    found = gncl(given, lam=0.7, consensus=consensus, masked=masked)  # type: ignore[arg-type]
    assert float(found.total) == pytest.approx(expected, rel=1e-12)


def test_gncl_masks_only_the_wrong(given: Outputs):
    right = Outputs(given.logits, given.logits.mean(0).argmax(1))
    assert float(gncl(given, masked=True).parts["diversity"]) < float(gncl(given).parts["diversity"])
    peaked = Outputs(given.logits * 0 + 9 * torch.eye(CLASSES, dtype=torch.float64)[right.y], right.y)
    some = Outputs(peaked.logits + 0.1 * given.logits, right.y)
    assert torch.equal(gncl(some, masked=True).total, gncl(some).total)


def test_gncl_geometric_mean_is_the_mean_of_logits(given: Outputs):
    torch.testing.assert_close(gncl(given, consensus="geometric-mean").total, gncl(given).total)
    assert not torch.isclose(gncl(given, consensus="median").total, gncl(given).total)


def test_gncl_gradient_of_every_smooth_consensus(given: Outputs):
    z = given.logits[:, :2, :4].clone().requires_grad_()
    for consensus in ("mean", "median", "geometric-mean"):
        assert torch.autograd.gradcheck(
            lambda z, c=consensus: gncl(Outputs(z, given.y[:2] % 4), lam=2.0, consensus=c).total, z
        )


def test_gncl_single_precision_never_rewards_equal_members():
    # sum(p d^2) - (sum p d)^2 rounds below zero here, as large shifts of all logits cancel.
    generator = torch.Generator().manual_seed(0)
    z = torch.randn((1, 64, 10), generator=generator) + torch.tensor([500.0, -500.0])[:, None, None]
    diversity = float(gncl(Outputs(z, torch.zeros(64, dtype=torch.long))).parts["diversity"])
    assert 0 <= diversity < 1e-8


def test_balanced_against_numpy_and_at_its_ends(given: Outputs):
    z = given.logits.numpy()
    own, team = mean_ce(z, given.y), mean_ce(z.mean(0, keepdims=True), given.y)
    assert team < own - 0.1
    for lam in (0.0, 0.2, 1.0):
        # As printed in eq. 3: (1/M) sum_i (lam l(f) + (1 - lam)/M sum_j l(h_j))
        expected = sum(lam * team + (1 - lam) / MEMBERS * (own * MEMBERS) for _ in range(MEMBERS)) / MEMBERS
        assert float(balanced(given, lam=lam).total) == pytest.approx(expected, rel=1e-12)
    logs = FUSIONS["mean-logit"](given.logits)
    smooth = -(0.9 * logs[torch.arange(BATCH), given.y] + 0.1 * logs.mean(1)).mean()
    smoothed = balanced(Outputs(given.logits, given.y, smoothing=0.1), lam=1.0)
    torch.testing.assert_close(smoothed.total, smooth)


def test_balanced_refuses_more_than_all():
    defenses.check("balanced", {"lam": 1.0}, 3, 10)
    with pytest.raises(UserError, match=r"balanced.lam 1.5 is out of range; it must be in \[0, 1\]"):
        defenses.check("balanced", {"lam": 1.5}, 3, 10)


def test_ncl_against_numpy_over_ordered_pairs(given: Outputs):
    z = given.logits.numpy()
    p = softmax(z)
    d = p - p.mean(0)
    pairs = [(d[i] * d[j]).sum(1).mean() for i in range(MEMBERS) for j in range(MEMBERS) if i != j]
    found = ncl(given, weight=0.7)
    assert float(found.parts["correlation"]) == pytest.approx(np.mean(pairs), rel=1e-12)
    assert float(found.total) == pytest.approx(mean_ce(z, given.y) + 0.7 * np.mean(pairs), rel=1e-12)
    # Liu and Yao 1999, eq. 3, over all members: p_i = (F_i - F) sum_{j != i} (F_j - F).
    liu_yao = sum((d[i] * (d.sum(0) - d[i])).sum(1).mean() for i in range(MEMBERS))
    assert float(found.parts["correlation"]) == pytest.approx(liu_yao / (MEMBERS * (MEMBERS - 1)), rel=1e-12)


def test_ncl_has_the_gradient_of_a_mean_held_constant(given: Outputs):
    def held(z: Tensor) -> Tensor:
        p = z.softmax(2)
        d = p - p.mean(0).detach()
        gram = torch.einsum("mbl,nbl->bmn", d, d)
        off = gram.sum((1, 2)) - gram.diagonal(dim1=1, dim2=2).sum(1)
        return off.mean() / (MEMBERS * (MEMBERS - 1))

    z = given.logits.clone().requires_grad_()
    (expected,) = torch.autograd.grad(held(z), z)
    ours, ce = ncl(Outputs(z, given.y), weight=1.0).total, ncl(Outputs(z, given.y), weight=0.0).total
    (found,) = torch.autograd.grad(ours - ce, z)
    torch.testing.assert_close(found, expected)


def test_ncl_by_hand():
    # Two members, (1/4, 3/4) and (3/4, 1/4): d = +-(1/4, -1/4), <d_1, d_2> = -1/8.
    z = torch.tensor([[[0.0, math.log(3)]], [[math.log(3), 0.0]]], dtype=torch.float64)
    assert float(ncl(Outputs(z, torch.tensor([0]))).parts["correlation"]) == pytest.approx(-1 / 8)

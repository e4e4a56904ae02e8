"""Ensembles: normalisation inside, views, fingerprints."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from robustkit.ensembles.ensemble import Ensemble, Member


def make(fusion: str = "mean-prob") -> Ensemble:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        nets = [nn.Sequential(nn.Flatten(), nn.Linear(12, 4)) for _ in range(3)]
    return Ensemble([Member(net, (0.1, 0.2, 0.3), (0.5, 1.0, 2.0)) for net in nets], fusion).eval()


def test_member_normalises_by_itself():
    ensemble = make()
    x = torch.rand((5, 3, 2, 2), generator=torch.Generator().manual_seed(1))
    by_hand = torch.stack([(x[:, 0] - 0.1) / 0.5, (x[:, 1] - 0.2) / 1.0, (x[:, 2] - 0.3) / 2.0], 1)
    logits = ensemble.member_logits(x)
    assert logits.shape == (3, 5, 4)
    for member, own in zip(ensemble.members, logits, strict=True):
        torch.testing.assert_close(own, member.network(by_hand))


def test_views_are_log_probabilities_of_what_they_name():
    ensemble = make("mean-logit")
    x = torch.rand((5, 3, 2, 2), generator=torch.Generator().manual_seed(1))
    logits = ensemble.member_logits(x)
    assert torch.equal(ensemble.view("ensemble")(x), ensemble(x))
    torch.testing.assert_close(ensemble.view("member-2")(x), logits[2].log_softmax(1))
    torch.testing.assert_close(ensemble(x), logits.mean(0).log_softmax(1))


def test_fingerprint_tells_any_weight_or_buffer_apart():
    ensemble = make()
    same, weight, buffer = copy.deepcopy(ensemble), copy.deepcopy(ensemble), copy.deepcopy(ensemble)
    with torch.no_grad():
        weight.members[1].network[1].weight[0, 0] += 1e-6
        buffer.members[2].normalize.mean[0, 0] += 1e-3
    assert same.fingerprint() == ensemble.fingerprint()
    assert len({e.fingerprint() for e in (ensemble, weight, buffer)}) == 3


def test_no_member_no_ensemble():
    with pytest.raises(ValueError, match="at least one member"):
        Ensemble([])

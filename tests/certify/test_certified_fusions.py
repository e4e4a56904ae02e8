from __future__ import annotations

import pytest
import torch
from certified_models import Plain, attacked, mixed
from torch import Tensor, nn

from robustkit.base.errors import UserError
from robustkit.certify import fusing, reading, voting
from robustkit.certify.region import Region
from robustkit.data import Dataset
from robustkit.ensembles.ensemble import Ensemble
from robustkit.ensembles.fusion import rule_of

EFFORT = fusing.Effort(steps=8, cases=24, case_steps=5)


def certified(ensemble: Ensemble, x: Tensor, y: Tensor, eps: float, norm: str = "linf") -> fusing.Certificate:
    graph = reading.read(ensemble.members, x[:4])
    slack = fusing.slack_of(graph, ensemble.members, x[:4])
    return fusing.certify(graph, ensemble.fusion, ensemble.chances, Region(x.double(), eps, norm), y, EFFORT, slack)


@pytest.fixture(scope="module")
def trained(digits: Dataset) -> list[nn.Module]:
    """Three small networks, each trained on its own third of the digits, so that they err on different images."""
    split = digits.split("train")
    x, y = split.tensor(), split.y
    made = []
    for part in range(3):
        net = Plain(part, 64, 32, 10)
        optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
        for _ in range(80):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x[part::3]), y[part::3]).backward()
            optimiser.step()
        made.append(net.eval().requires_grad_(False))
    return made


@pytest.mark.parametrize("fusion", ["mean-logit", "mean-prob", "majority", "median", "random:0.5,0.3,0.2"])
def test_what_is_certified_is_never_broken(fusion: str):
    x = torch.rand(30, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    ensemble = mixed(fusion=fusion)
    with torch.no_grad():
        y = ensemble(x).argmax(1)
    for eps, norm in ((0.003, "linf"), (0.02, "l2")):
        found = certified(ensemble, x, y, eps, norm)
        assert float(found.floor.sum()) > 0
        if ensemble.chances:
            for member, own in zip(ensemble.members, found.alone, strict=True):
                assert not bool((own & attacked(member, x, y, eps, norm, 12)).any())
        else:
            assert not bool(((found.floor > 0) & attacked(ensemble, x, y, eps, norm, 12)).any())


@pytest.mark.parametrize("fusion", ["mean-logit", "mean-prob", "majority"])
def test_an_ensemble_is_certified_beyond_its_members(trained: list[nn.Module], digits: Dataset, fusion: str):
    split = digits.split("test").take(60)
    x, y = split.tensor(), split.y
    ensemble = Ensemble(trained, fusion).eval()
    right = ensemble(x).argmax(1) == y
    found = certified(ensemble, x[right], y[right], 0.03)
    alone = found.alone.double().mean(1)
    assert float(found.floor.mean()) > float(found.alone.all(0).double().mean()) + 0.03
    assert float(found.floor.mean()) > float(alone.mean())
    assert not bool(((found.floor > 0) & attacked(ensemble, x[right], y[right], 0.03, "linf")).any())


def test_the_difference_of_probabilities_is_bounded_over_a_box():
    generator = torch.Generator().manual_seed(0)
    low = torch.randn(2, 4, 9, generator=generator, dtype=torch.float64) * 2
    high = low + torch.rand(2, 4, 9, generator=generator, dtype=torch.float64) * 2
    least = voting._difference(low, high)
    lines = [voting._lines(low, high, factor) for factor in (0.0, 0.5, 1.0, 2.0)]
    seen = torch.full_like(least, torch.inf)
    for _ in range(300):
        margin = low + (high - low) * torch.rand(low.shape, generator=generator, dtype=torch.float64).round(decimals=1)
        z = torch.cat([torch.zeros(2, 1, 9), -margin], 1).double()  # the label's logit first
        p = z.softmax(1)
        difference = p[:, :1] - p[:, 1:]
        seen = torch.minimum(seen, difference)
        for slope, height in lines:
            assert bool((slope * margin + height <= difference + 1e-12).all())
    assert bool((least <= seen + 1e-12).all())
    assert float((seen - least).median()) < 0.2  # and near to what was seen


def test_of_one_member_every_rule_is_its_margin():
    x = torch.rand(10, 1, 8, 8, generator=torch.Generator().manual_seed(7))
    y = mixed(1)(x).argmax(1)
    found = [certified(mixed(1, rule), x, y, 0.01) for rule in ("mean-logit", "mean-prob", "majority")]
    assert all(torch.equal(one.floor, found[0].floor) for one in found)
    assert float(found[0].floor.sum()) > 0


def test_rules_without_bounds_are_refused():
    rule_of("crossmax")
    with pytest.raises(
        UserError, match="fusion rule 'crossmax' has no certified bounds; those that have are mean-logit"
    ):
        fusing.check_rule("crossmax", 3)
    fusing.check_rule("crossmax", 1)

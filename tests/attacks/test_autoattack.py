"""AutoAttack: no weaker than any of its parts, which see only what still stands; torchattacks' battery."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robustkit.attacks.apgd_ce import apgd_ce
from robustkit.attacks.apgd_t import apgd_t
from robustkit.attacks.autoattack import autoattack
from robustkit.attacks.square import square
from robustkit.ensembles.ensemble import Ensemble
from robustkit.functional.norms import size
from robustkit.functional.trace import Trace

CHEAP = {"steps": 10, "queries": 60, "targets": 4}


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    return (model(x).argmax(1) == y).double().mean().item()


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.08), ("l2", 0.5)])
def test_no_weaker_than_its_parts(network: nn.Module, test_images: tuple[Tensor, Tensor], norm: str, eps: float):
    x, y = (t[:60] for t in test_images)
    trace = Trace(60, keep=2)
    made = autoattack(network, x, y, eps=eps, norm=norm, trace=trace, **CHEAP)
    assert size(made - x, norm).max() <= eps * (1 + 1e-5)
    left = accuracy(network, made, y)
    parts = [
        apgd_ce(network, x, y, eps=eps, norm=norm, steps=10),
        apgd_t(network, x, y, eps=eps, norm=norm, steps=10, targets=4),
        square(network, x, y, eps=eps, norm=norm, queries=60),
    ]
    slack = 1 / 60  # the parts draw other starts here
    assert all(left <= accuracy(network, part, y) + slack for part in parts)
    assert 0 < left < accuracy(network, x, y)
    stands = network(made).argmax(1) == y
    # clean and final pass of each of four attacks; 11 passes of apgd-ce, 4 x 11 of apgd-t, 4 x 20 of fab, 61 of square
    assert (trace.forwards[stands] == 8 + 11 + 44 + 80 + 61).all()
    assert (trace.backwards[stands] == 10 + 40 + 40).all()
    assert (trace.forwards[network(x).argmax(1) != y] == 2).all()  # wrong already: only the first attack's two passes
    assert (trace.forwards[~stands] < trace.forwards[stands][0]).all()


def test_no_weaker_than_the_same_battery_of_torchattacks(network: nn.Module, test_images: tuple[Tensor, Tensor]):
    ta = pytest.importorskip("torchattacks")
    x, y = (t[:50] for t in test_images)
    common = {"norm": "Linf", "eps": 0.08}
    battery = ta.MultiAttack(
        [
            ta.APGD(network, steps=12, loss="ce", **common),
            ta.APGDT(network, steps=12, **common),
            ta.FAB(network, steps=12, multi_targeted=True, **common),
            ta.Square(network, n_queries=60, **common),
        ]
    )
    peers = accuracy(network, battery(x, y), y)
    ours = accuracy(network, autoattack(network, x, y, eps=0.08, steps=12, queries=60), y)
    assert ours <= peers + (peers * (1 - peers) / 50) ** 0.5


def test_torchattacks_standard_version_has_a_tenth_of_the_steps():
    """The standard AutoAttack takes 100 steps and is seeded; that of torchattacks takes 10 and seeds by the clock."""
    torchattacks = pytest.importorskip("torchattacks")
    peer = torchattacks.AutoAttack(torch.nn.Linear(2, 2), version="standard")
    assert [a.steps for a in peer._autoattack.attacks[:3]] == [10, 10, 10]
    assert peer.seed is None
    assert peer.get_seed() != 0


def test_images_of_fab_outside_the_ball_do_not_count(network: nn.Module, test_images: tuple[Tensor, Tensor]):
    x, y = (t[:30] for t in test_images)
    right = network(x).argmax(1) == y
    made = autoattack(network, x, y, eps=1e-4, **CHEAP)
    assert size(made - x, "linf").max() <= 1.01e-4
    assert (network(made).argmax(1) == y)[right].all()


def test_an_unknown_version_is_refused(trained: Ensemble, test_images: tuple[Tensor, Tensor]):
    with pytest.raises(ValueError, match="plus"):
        autoattack(trained, test_images[0][:2], test_images[1][:2], eps=0.1, version="plus")

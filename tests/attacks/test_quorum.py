"""Quorum: its mixtures by hand, its moves by hand, every fusion rule, what hides gradients, how large logits are."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from member_models import FUSIONS, Counted, Shown, Times, logits, mixed, standing
from shared_data import SHARED
from test_fusion_swap import Hidden, centred, images, mean_of, weights
from torch import Tensor, nn
from torch.nn import functional

from robustkit import attacks
from robustkit.attacks._ascent import PULL, ascend, gliding
from robustkit.attacks._members import by_gap, gap
from robustkit.attacks.quorum import groups
from robustkit.base.errors import UserError
from robustkit.ensembles.ensemble import Ensemble, Member
from robustkit.functional.batching import Batched
from robustkit.functional.eot import Averaged
from robustkit.functional.norms import project, size, steepest
from robustkit.functional.trace import Trace
from robustkit.study.reference import reference_for

quorum = attacks.get("quorum")
TRUTH = SHARED / "truth"


def test_by_gap_leaves_a_gap_of_one_and_no_gradient_through_the_gap():
    z = logits().requires_grad_()
    top = by_gap(z).topk(2, -1).values
    torch.testing.assert_close(top[..., 0] - top[..., 1], torch.ones(3, 12, dtype=torch.float64))
    weight = torch.randn(z.shape, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((weight * by_gap(z)).sum(), z)
    torch.testing.assert_close(gradient, weight / (z.max(-1).values - z.kthvalue(4, -1).values)[..., None])
    assert not gap(z).requires_grad
    assert torch.isfinite(by_gap(torch.zeros(2, 5))).all()  # two that are equal


def by_hand(
    logits: Tensor, fused: Tensor, y: Tensor, share: float, group: list[int] | None, targeted: bool, votes: bool
) -> Tensor:
    """The mixture in plain loops: of the fused output and a group; None: those that an attack has yet to fool."""
    mixed = []
    for row, label in enumerate(y.tolist()):
        chosen = []
        for m, z in enumerate(logits[:, row]):
            right = (z.argmax().item() == label) != targeted
            if right if group is None else m in group:
                middle = sum(z.tolist()) / len(z)
                spread = math.sqrt(sum((value - middle) ** 2 for value in z.tolist()) / (len(z) - 1))
                top, second, *_ = sorted(z.tolist(), reverse=True)
                scale = top - second if votes else spread / 4
                chosen.append([value / scale for value in z.tolist()])
        first, second, *_ = sorted(fused[row].tolist(), reverse=True)
        s = share if chosen else 0.0
        mixed.append(
            [
                (1 - s) * value / (first - second) + s * sum(z[i] for z in chosen) / max(1, len(chosen))
                for i, value in enumerate(fused[row].tolist())
            ]
        )
    return torch.tensor(mixed, dtype=torch.float64)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_each_mixture_by_hand(fusion: str, targeted: bool):
    model, x = Shown(logits(), fusion), torch.rand(12, 1, 2, 2)
    y = torch.arange(12) % 5
    y[:6] = model.logits[0, :6].argmax(1)
    votes = fusion in ("majority", "median", "crossmax")
    right = (model.logits.argmax(2) == y).sum(0)
    assert {0, 1, 2} <= set(right.tolist())  # of nobody, one, some
    wanted = [(0.5, None), (0.75, [1, 2]), (0.75, [0, 2]), (0.75, [0, 1]), *((s, None) for s in (0.0, 0.25, 0.75, 1.0))]
    views = groups(3, targeted)
    assert len(views) == len(wanted) == 8
    for view, (share, group) in zip(views, wanted, strict=True):
        judged, (ascended,) = view(model, x, y)
        assert torch.equal(judged, model.fuse(model.logits))
        torch.testing.assert_close(ascended, by_hand(model.logits, judged, y, share, group, targeted, votes))


def alone(z: Tensor) -> Tensor:
    """What a single model's first run ascends: half by its gap, half by its spread."""
    return 0.5 * by_gap(z) + 4 * z / z.detach().std(1, keepdim=True)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_moves_by_hand(norm: str):
    """Steps of 2 eps (1 + cos) / 2, and momentum in all moves but the first."""
    steps, eps, seen = 5, 0.05, []
    w = torch.randn(5, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x, y = images(6), torch.arange(6) % 5

    def score(x: Tensor) -> Tensor:
        return torch.sin(4 * x.flatten(1)) @ w.T

    def model(x: Tensor) -> Tensor:
        seen.append(x.detach().clone())
        return score(x)

    quorum(model, x, y, eps=eps, steps=steps, restarts=1, norm=norm, stop_early=False)
    assert len(seen) == steps + 1
    for k in range(steps):
        point = seen[k].clone().requires_grad_()
        gradient = torch.autograd.grad(functional.cross_entropy(alone(score(point)), y, reduction="sum"), point)[0]
        length = 2 * eps * (1 + math.cos(math.pi * k / steps)) / 2
        ahead = project(seen[k] + length * steepest(gradient, norm), x, eps, norm)
        if k:
            ahead = project(seen[k] + 0.75 * (ahead - seen[k]) + 0.25 * (seen[k] - seen[k - 1]), x, eps, norm)
        torch.testing.assert_close(seen[k + 1], ahead)
    assert size(seen[0] - x, norm).max() > 0  # a random start


def test_step_sizes_glide_from_twice_the_budget():
    sizes = gliding(0.1, 24)
    assert len(sizes) == 24
    assert sizes[0] == pytest.approx(0.2)
    assert sizes[12] == pytest.approx(0.1)
    assert sizes == sorted(sizes, reverse=True)
    assert 0 < sizes[-1] < 0.001


def test_without_members_it_is_an_ascent_of_its_own_cross_entropy_on_two_scales(trained: Ensemble, test_images):
    x, y = test_images[0][:40].double(), test_images[1][:40]
    net = trained.double().members[0]
    common = {"eps": 0.1, "steps": 12, "restarts": 2, "generator": 3}
    runs = [lambda net, x, y: (net(x), alone(net(x))[None]), lambda net, x, y: (net(x), by_gap(net(x))[None] / 2)]
    plain = ascend(
        net, x, y, eps=0.1, steps=12, step_size=gliding(0.1, 12), norm="linf", loss="ce", targeted=False,
        randomly=True, pull=PULL, readouts=runs, generator=3,
    )  # fmt: skip
    fooled = net(plain).argmax(1) != y
    assert 5 <= fooled.sum() <= 35
    for model in (net, lambda x: net(x), Ensemble([net], "mean-logit"), trained.view("member-0")):
        made = quorum(model, x, y, **common)
        assert torch.equal(net(made).argmax(1) != y, fooled)
        torch.testing.assert_close(made[fooled], plain[fooled])  # of those that stand, by another loss, another iterate


@pytest.mark.parametrize("fusion", FUSIONS)
def test_breaks_no_less_than_pgd_of_as_many_passes(trained: Ensemble, lenets: Ensemble, test_images, fusion: str):
    """Of members that differ in architecture, whichever rule fuses them."""
    model, data = mixed(trained, lenets, fusion), [part[:40] for part in test_images]
    passes = {"eps": 0.1, "steps": 8, "restarts": 8}
    left = standing("quorum", model, data, **passes)
    assert 10 <= left <= 30
    assert left <= standing("pgd", model, data, **passes)


@pytest.mark.parametrize("targeted", [False, True])
def test_breaks_behind_a_hidden_fusion(targeted: bool):
    members = centred(*(weights(s) for s in range(3)))
    ensemble, mean, x = Hidden(members), mean_of(members), images()
    own = ensemble(x).argmax(1)
    breakable = mean.score(x).abs() < 0.02 * size(mean.w[None], "l1")
    data = [x, 1 - own if targeted else own]
    broken = 40 - standing("quorum", ensemble, data, eps=0.02, targeted=targeted)
    assert broken >= 0.9 * breakable.sum()
    assert 40 - standing("pgd", ensemble, data, eps=0.02, targeted=targeted, restarts=8) <= breakable.sum() / 2


@pytest.mark.parametrize("fusion", ["mean-logit", "geometric-mean"])
def test_the_size_of_the_logits_changes_nothing(trained: Ensemble, test_images, fusion: str):
    x, y = test_images[0][:30].double(), test_images[1][:30]
    members = list(trained.double().members)
    common = {"eps": 0.1, "steps": 10, "generator": 0}
    small = quorum(Ensemble(members, fusion), x, y, **common)
    large = quorum(Ensemble([Times(m, 1e4) for m in members], fusion), x, y, **common)
    broken = Ensemble(members, fusion)(small).argmax(1) != y
    assert 5 <= broken.sum() <= 25
    torch.testing.assert_close(large[broken], small[broken])


def test_large_logits_are_broken_as_often(trained: Ensemble, test_images):
    """Mean probabilities and votes are other functions of larger logits, though hardly harder ones."""
    data = [part[:30] for part in test_images]
    for fusion in ("mean-prob", "majority"):
        small, large = (
            Ensemble([Times(m, by) for m in trained.members], fusion).eval().requires_grad_(False) for by in (1.0, 1e4)
        )
        common = {"eps": 0.1, "steps": 8}
        assert abs(standing("quorum", large, data, **common) - standing("quorum", small, data, **common)) <= 2
        assert standing("pgd", large, data, **common, restarts=2) >= standing("quorum", large, data, **common) + 5


def test_aims_as_well_as_pgd(trained: Ensemble, test_images):
    x = test_images[0][:40]
    target = trained(x).topk(2).indices[:, 1]
    common = {"eps": 0.08, "steps": 12, "restarts": 8, "targeted": True}
    left = standing("quorum", trained, [x, target], **common)
    assert 10 <= left <= 35
    assert left <= standing("pgd", trained, [x, target], **common)


def test_sees_the_mean_of_passes(trained: Ensemble, test_images):
    class Noisy(Counted):
        def member_logits(self, x: Tensor) -> Tensor:
            return super().member_logits(x + 0.1 * torch.randn_like(x))

    x, y = test_images[0][:30], test_images[1][:30]
    common = {"eps": 0.1, "steps": 6, "restarts": 2, "generator": 0}
    plain = quorum(trained, x, y, **common)
    torch.testing.assert_close(quorum(Batched(Averaged(trained, 3), 7), x, y, **common), plain, atol=1e-6, rtol=0)
    noisy = Noisy(list(trained.members)).eval()
    made = quorum(Averaged(noisy, 4), x, y, stop_early=False, **common)
    assert noisy.passes == 4 * 2 * 7
    assert (trained(made).argmax(1) == y).sum() <= (trained(plain).argmax(1) == y).sum() + 3


@pytest.mark.parametrize("members", [1, 2, 3])
def test_every_run_is_counted_and_who_is_broken_leaves(trained: Ensemble, test_images, members: int):
    x, y = test_images[0][:30], test_images[1][:30]
    full, early = Trace(30, keep=4), Trace(30)
    ensemble = Ensemble(list(trained.members)[:members], "median")
    common = {"eps": 0.1, "steps": 4, "restarts": 6, "generator": 0, "give_up": 1.0}
    whole = quorum(ensemble, x, y, stop_early=False, trace=full, **common)
    assert (full.forwards == 5 * 6).all()
    assert (full.backwards == 4 * 6).all()
    assert full.history.shape == (4, 5 * 6)
    made = quorum(ensemble, x, y, trace=early, **common)
    stands = ensemble(made).argmax(1) == y
    assert torch.equal(ensemble(whole).argmax(1) == y, stands)  # who leaves changes nothing for the others
    assert (early.forwards[stands] == 5 * 6).all()
    assert (early.forwards[ensemble(x).argmax(1) != y] <= 5).all()
    assert early.forwards.sum() < 0.9 * full.forwards.sum()


@pytest.mark.parametrize(("fusion", "loud"), [("mean-prob", 1.0), ("mean-prob", 30.0), ("majority", 1.0)])
def test_what_two_or_four_runs_have_hardly_moved_further_runs_do_not_see(
    trained: Ensemble, test_images, fusion: str, loud: float
):
    """By the members' margins in standard deviations of their clean logits: who speaks loudest is one of three."""
    x, y = test_images[0][:80], test_images[1][:80]
    first, *others = trained.members
    ensemble, trace, share = Ensemble([Times(first, loud), *others], fusion).eval(), Trace(80), 0.4
    common = {"eps": 0.04, "steps": 5, "generator": 0}
    two, four = (quorum(ensemble, x, y, restarts=runs, give_up=1.0, **common) for runs in (2, 4))
    made = quorum(ensemble, x, y, restarts=7, give_up=share, trace=trace, **common)

    def margin(images: Tensor, row: int) -> float:
        spreads = [statistics.stdev(z) for z in ensemble.member_logits(x[row : row + 1])[:, 0].tolist()]
        logits = ensemble.member_logits(images[row : row + 1])[:, 0].tolist()
        own = [z.pop(int(y[row])) for z in logits]
        margins = [mine - max(others) for mine, others in zip(own, logits, strict=True)]
        return sum(value / spread for value, spread in zip(margins, spreads, strict=True)) / len(own)

    def above(images: Tensor, share: float) -> Tensor:
        return torch.tensor([margin(images, row) > share * margin(x, row) for row in range(80)])

    stands = ensemble(two).argmax(1) == y
    far = stands & above(two, 1.25 * share) & (fusion != "majority")  # each run is against other votes
    later = stands & ~far & (ensemble(four).argmax(1) == y)
    further = later & above(four, share)
    near = later & ~further & (ensemble(made).argmax(1) == y)
    assert min(int(kind.sum()) for kind in (further, near)) > 2
    assert (far.sum() > 5) == (fusion != "majority")
    second = 3 if far.any() else 2
    for kind, runs, looks, best in ((far, 2, 2, two), (further, 4, second, four), (near, 7, second, made)):
        assert (trace.forwards[kind] == 6 * runs + looks).all()
        assert torch.equal(made[kind], best[kind])  # the best of those runs is what is left of it
    assert torch.equal(made[~stands], two[~stands])


@pytest.mark.parametrize("fusion", ["mean-logit", "geometric-mean"])
def test_whom_it_gives_up_the_size_of_the_logits_does_not_change(trained: Ensemble, test_images, fusion: str):
    """Of members so sure that cross-entropy is 0, the best of two runs is known by its margin."""
    x, y = test_images[0][:60].double(), test_images[1][:60]
    members, seen = list(trained.double().members), []
    for by in (1.0, 1e4):
        trace, ensemble = Trace(60), Ensemble([Times(m, by) for m in members], fusion)
        quorum(ensemble, x, y, eps=0.04, steps=5, restarts=6, generator=0, trace=trace)
        seen.append(trace.forwards)
    assert torch.equal(*seen)
    assert (seen[0] == 6 * 2 + 2).sum() > 5  # given up after two
    assert (seen[0] > 6 * 6).sum() > 5  # seen by all


@pytest.mark.parametrize(
    ("fusion", "more"),
    [("mean-prob", {"give_up": 1.0}), ("mean-prob", {"stop_early": False}), ("crossmax", {}), ("random", {})],
)
def test_nobody_is_given_up_where_it_is_not_asked_for_or_not_known(
    trained: Ensemble, test_images, fusion: str, more: dict[str, object]
):
    x, y = test_images[0][:20], test_images[1][:20]
    trace, ensemble = Trace(20), Ensemble(list(trained.members), fusion).eval()
    made = quorum(ensemble, x, y, eps=0.001, steps=2, restarts=6, generator=0, trace=trace, **more)
    stands = ensemble(made).argmax(1) == y
    assert stands.sum() > 10
    assert (trace.forwards[stands] == 3 * 6).all()


@pytest.mark.parametrize("share", [-1.0, -1e-9])
def test_a_share_below_nothing_is_refused(trained: Ensemble, test_images, share: float):
    with pytest.raises(UserError, match=r"give_up = -\S+ is out of range: give a share of the clean margin"):
        quorum(trained, test_images[0][:2], test_images[1][:2], eps=0.1, give_up=share)


def truth(name: str) -> tuple[Ensemble, Tensor, Tensor]:
    """A public network whose robust accuracy a complete verifier brackets, and the 200 images of the bracket."""
    import numpy as np

    channels, side = (1, 28) if name == "mnist" else (3, 32)
    net = nn.Sequential(
        nn.Conv2d(channels, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(32 * (side // 4) ** 2, 100), nn.ReLU(), nn.Linear(100, 10),
    )  # fmt: skip
    stored = torch.load(TRUTH / f"{name}_cnn_a_adv.model", weights_only=True, map_location="cpu")
    stored = stored[0] if isinstance(stored, (list, tuple)) else stored
    stored = stored.get("state_dict", stored)
    net.load_state_dict(dict(zip(net.state_dict(), stored.values(), strict=True)))
    scale = {
        "mnist": ([0.0], [1.0]),
        "cifar": ([125.3 / 255, 123 / 255, 113.9 / 255], [63 / 255, 62.1 / 255, 66.7 / 255]),
    }
    with np.load(TRUTH / f"{name}_sdp.npz") as data:
        x, y = torch.from_numpy(data["x"]).float().permute(0, 3, 1, 2).contiguous(), torch.from_numpy(data["y"]).long()
    return Ensemble([Member(net, *scale[name])]).eval().requires_grad_(False), x, y


@pytest.mark.skipif(not TRUTH.exists(), reason="the networks whose truth is known are not here")
@pytest.mark.parametrize(
    ("name", "eps", "restarts", "proven", "most", "passes"),
    [("mnist", 0.3, 6, 152, 154, 90), ("cifar", 2 / 255, 6, 97, 101, 50)],
)
def test_ends_where_the_truth_is_known(name: str, eps: float, restarts: int, proven: int, most: int, passes: int):
    """Of 200 images the verifier proves so many; PGD of 100 steps leaves 156 and 104; from whatever starts."""
    model, x, y = truth(name)
    assert reference_for("mean-prob", members=1).params["restarts"] == restarts
    for seed in range(3):
        trace = Trace(200)
        made = quorum(model, x, y, eps=eps, restarts=restarts, generator=seed, trace=trace)
        assert proven <= (model(made).argmax(1) == y).sum() <= most
        assert trace.forwards.double().mean() <= passes

"""The fusion swap: what it breaks behind a fusion that hides gradients, closed forms, the summed loss by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from robustkit import attacks
from robustkit.ensembles.ensemble import Ensemble
from robustkit.ensembles.fusion import mean_logit
from robustkit.functional.batching import Batched
from robustkit.functional.norms import size
from robustkit.functional.sampling import SampleGenerator
from robustkit.functional.trace import Trace

SHAPE = (1, 3, 4)
swap, pgd = attacks.get("fusion-swap"), attacks.get("pgd")


class Linear(nn.Module):
    """z = (0, w . x + b): two classes, so that the optimum in any ball is known."""

    def __init__(self, w: Tensor, bias: float = 0.0) -> None:
        super().__init__()
        self.w, self.bias = w, bias

    def score(self, x: Tensor) -> Tensor:
        return (x * self.w).flatten(1).sum(1) + self.bias

    def forward(self, x: Tensor) -> Tensor:
        score = self.score(x)
        return torch.stack([torch.zeros_like(score), score], 1)


class Hidden(Ensemble):
    """The mean logits without their gradient, or those of one member."""

    dictator: int | None = None

    def fuse(self, logits: Tensor) -> Tensor:
        shown = mean_logit(logits) if self.dictator is None else functional.log_softmax(logits[self.dictator], -1)
        return shown.detach() + 0 * logits.sum(0)


def weights(seed: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def images(n: int = 40) -> Tensor:
    return 0.5 + 0.1 * torch.randn((n, *SHAPE), generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def centred(*ws: Tensor) -> list[Linear]:
    """Members whose score is 0 in the middle of the images."""
    return [Linear(w, -0.5 * w.sum().item()) for w in ws]


def mean_of(members: list[Linear]) -> Linear:
    return Linear(torch.stack([m.w for m in members]).mean(0), sum(m.bias for m in members) / len(members))


@pytest.mark.parametrize(("norm", "dual", "eps"), [("linf", "l1", 0.02), ("l2", "l2", 0.1)])
@pytest.mark.parametrize("targeted", [False, True])
def test_breaks_behind_a_hidden_fusion_exactly_what_can_be_broken(norm: str, dual: str, eps: float, targeted: bool):
    members = centred(*(weights(s) for s in range(3)))
    ensemble, mean, x = Hidden(members), mean_of(members), images()
    own = ensemble(x).argmax(1)
    breakable = mean.score(x).abs() < eps * size(mean.w[None], dual)
    assert 10 <= breakable.sum() <= 30

    def broken(attack) -> Tensor:
        made = attack(ensemble, x, 1 - own if targeted else own, eps=eps, norm=norm, targeted=targeted)
        return ensemble(made).argmax(1) != own

    assert torch.equal(broken(swap), breakable)
    assert broken(pgd).sum() <= breakable.sum() / 2  # what its random start happens to break


def test_members_are_attacked_one_by_one_too():
    """The mean follows the stronger member, whose weights oppose those of the one that decides."""
    w = weights(0)
    ensemble, x, eps = Hidden(centred(w, -0.5 * w)), images(), 0.02
    ensemble.dictator = 1
    own = ensemble(x).argmax(1)
    breakable = ensemble.members[1].score(x).abs() < eps * size(0.5 * w[None], "l1")
    assert 10 <= breakable.sum() <= 30
    assert torch.equal(ensemble(swap(ensemble, x, own, eps=eps)).argmax(1) != own, breakable)


@pytest.mark.parametrize(("norm", "dual"), [("linf", "l1"), ("l2", "l2")])
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("stop_early", [False, True])
def test_linear_optimum_is_reached_within_one_percent(norm: str, dual: str, targeted: bool, stop_early: bool):
    members = [Linear(weights(s), 1e3) for s in range(3)]  # nothing can be broken: class 1 stays, and the best counts
    mean, x = mean_of(members), images(6)
    y = torch.full((6,), 0 if targeted else 1)
    made = swap(Ensemble(members, "mean-logit"), x, y, eps=0.1, steps=40, norm=norm, targeted=targeted, loss="margin",
                stop_early=stop_early)  # fmt: skip
    best, moved = 0.1 * size(mean.w[None], dual).item(), -((made - x) * mean.w).flatten(1).sum(1)
    assert (moved >= 0.99 * best).all()
    assert (moved <= best * (1 + 1e-9)).all()


def test_first_steps_by_hand():
    class Watched(Ensemble):
        def member_logits(self, x: Tensor) -> Tensor:
            seen.append(x.detach().clone())
            return super().member_logits(x)

    members = [Linear(weights(s), bias) for s, bias in ((0, 2.0), (1, 0.0), (2, -3.0))]
    x, y, step, seen = images(5), torch.tensor([0, 1, 0, 1, 1]), 0.01, []
    swap(Watched(members), x, y, eps=0.1, steps=1, step_size=step, random_start=False, stop_early=False)

    def step_of(loss) -> Tensor:
        point = x.clone().requires_grad_()
        z = torch.stack([m(point) for m in members])
        return step * torch.autograd.grad(loss(z), point)[0].sign()

    def nll(log_p: Tensor) -> Tensor:
        return functional.nll_loss(log_p, y, reduction="sum")

    wanted = [
        step_of(lambda z: nll(functional.log_softmax(z.mean(0), -1))),
        step_of(lambda z: nll(functional.softmax(z, -1).mean(0).log())),
        step_of(lambda z: sum(functional.cross_entropy(one, y, reduction="sum") for one in z)),
        *(step_of(lambda z, m=m: functional.cross_entropy(z[m], y, reduction="sum")) for m in range(3)),
    ]
    assert len(seen) == 2 * len(wanted)
    for start, end, delta in zip(seen[::2], seen[1::2], wanted, strict=True):
        assert torch.equal(start, x)
        torch.testing.assert_close(end, x + delta)
    assert all(not torch.equal(a, b) for i, a in enumerate(wanted) for b in wanted[:i])  # each of them is another


def test_without_members_it_is_pgd(trained: Ensemble, test_images):
    x, y = test_images[0][:40], test_images[1][:40]
    for model in (trained.view("member-0"), lambda x: trained(x)):
        made = swap(model, x, y, eps=0.1, generator=3)
        assert torch.equal(made, pgd(model, x, y, eps=0.1, steps=20, generator=3))
    assert not torch.equal(made, swap(trained, x, y, eps=0.1, generator=3))


@pytest.mark.parametrize(("members", "runs"), [(1, 1), (2, 5), (3, 6)])
def test_every_run_is_counted(trained: Ensemble, test_images, members: int, runs: int):
    x, y = test_images[0][:30], test_images[1][:30]
    full, early = Trace(30, keep=4), Trace(30)
    ensemble = Ensemble(list(trained.members)[:members], "median")
    swap(ensemble, x, y, eps=0.1, steps=4, stop_early=False, trace=full)
    assert (full.forwards == 5 * runs).all()
    assert (full.backwards == 4 * runs).all()
    assert full.history.shape == (4, 5 * runs)
    made = swap(ensemble, x, y, eps=0.1, steps=4, trace=early)
    standing = ensemble(made).argmax(1) == y
    assert (early.forwards[standing] == 5 * runs).all()  # those that stand are attacked by all runs, and only those
    assert (early.forwards[~standing] <= 5 * runs).all()
    assert early.forwards.sum() < full.forwards.sum()


def test_batches_do_not_matter(trained: Ensemble, test_images):
    x, y = test_images[0][:16], test_images[1][:16]
    ensemble, ids = Ensemble(list(trained.members), "majority"), torch.arange(16)

    def run(rows: Tensor, model: nn.Module) -> Tensor:
        return swap(model, x[rows], y[rows], eps=0.08, steps=4, generator=SampleGenerator(0, ids[rows], "swap"))

    whole = run(ids, ensemble)
    parts = [run(rows, ensemble) for rows in torch.split(ids, [1, 8, 7])]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-6, rtol=0)
    torch.testing.assert_close(run(ids, Batched(ensemble, 7)), whole, atol=1e-6, rtol=0)
    order = ids.flip(0)
    torch.testing.assert_close(run(order, ensemble), whole[order], atol=1e-6, rtol=0)

"""JSMA: the chosen features by hand, the pair rule against brute force and within its memory, other implementations."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from robustkit.attacks import _saliency
from robustkit.attacks._saliency import best_feature, best_pair
from robustkit.attacks.jsma import jsma
from robustkit.base.errors import UserError
from robustkit.functional.norms import size
from robustkit.functional.sampling import SampleGenerator
from robustkit.functional.trace import Trace


def linear(weights: list[list[float]], bias: list[float]):
    """Return z = W x + b, W (L, d)."""
    w, b = torch.tensor(weights, dtype=torch.float64), torch.tensor(bias, dtype=torch.float64)
    return lambda x: x.flatten(1) @ w.T + b


def image(*pixels: float) -> Tensor:
    return torch.tensor(pixels, dtype=torch.float64).view(1, 1, 1, -1)


def changed(made: Tensor, x: Tensor) -> list[int]:
    return torch.nonzero((made != x).flatten(1)[0]).flatten().tolist()


def test_the_most_salient_features_are_chosen_in_order():
    # Two classes: d log F_1 / dx is (w_1 - w_0) F_0, so that features rank as 2, 1, 4; 0 and 3 go the other way.
    model = linear([[0, 0, 0, 0, 0], [-1, 2, 3, -2, 1]], [0.0, -5.0])
    x, y = image(0.5, 0.5, 0.5, 0.5, 0.5), torch.tensor([0])
    made = jsma(model, x, y, theta=0.5, gamma=0.2)
    assert torch.equal(made, x)  # one feature is not enough: -3.5 + 1.5 < 0
    model = linear([[0, 0, 0, 0, 0], [-1, 2, 3, -2, 1]], [0.0, -2.9])
    made = jsma(model, x, y, theta=0.5, gamma=1.0)  # needs 1.4: the one at 3 gives 1.5
    assert changed(made, x) == [2]
    assert made.flatten()[2] == 1.0
    model = linear([[0, 0, 0, 0, 0], [-1, 2, 3, -2, 1]], [0.0, -4.2])
    assert changed(jsma(model, x, y, theta=0.5, gamma=1.0), x) == [1, 2, 4]  # needs 2.7 of 1.5 + 1 + 0.5
    assert changed(jsma(model, x, y, theta=0.5, gamma=1.0, increase=False), x) == []  # gives 1 + 0.5 only
    model = linear([[0, 0, 0, 0, 0], [-1, 2, 3, -2, 1]], [0.0, -2.0])
    made = jsma(linear([[0, 0, 0, 0, 0], [-1, 2, 3, -2, 1]], [0.0, -2.6]), x, y, theta=0.25, gamma=1.0, increase=False)
    assert changed(made, x) == [0, 3]  # needs 1.1: 0.5 and 0.5 by feature 3, down to 0, then feature 0
    torch.testing.assert_close(made.flatten()[[0, 3]], torch.tensor([0.25, 0.0]).double())


def test_a_pair_may_hold_a_feature_that_does_not_qualify_alone():
    # Candidates (gain, loss): 0 (3, -0.5), 1 (-0.5, 3), 2 (1, 1), 3 (0.5, 0.5), 4 out of the domain.
    inf = float("-inf")
    gain, loss = torch.tensor([[3, -0.5, 1, 0.5, inf]]), torch.tensor([[-0.5, 3, 1, 0.5, inf]])
    assert best_feature(gain, loss)[0].tolist() == [[2]]
    pair, possible = best_pair(gain, loss)
    assert sorted(pair[0].tolist()) == [0, 1]  # 2.5 * 2.5, where each has a score of its own that is negative
    assert possible.all()
    assert not best_pair(-gain.abs(), loss)[1].any()
    assert not best_pair(torch.full((2, 4), inf), torch.full((2, 4), inf))[1].any()
    assert not best_pair(torch.tensor([[1.0, inf]]), torch.tensor([[1.0, inf]]))[1].any()


def brute_force(gain: Tensor, loss: Tensor) -> Tensor:
    a, b = gain[:, :, None] + gain[:, None, :], loss[:, :, None] + loss[:, None, :]
    score = torch.where((a > 0) & (b > 0), a * b, 0.0)
    return score.masked_fill(torch.eye(gain.shape[1], dtype=torch.bool), 0.0).amax((1, 2))


@pytest.mark.parametrize("kind", ["random", "ties", "front", "opposed", "negative"])
@pytest.mark.parametrize("together", [1024, 3])
def test_the_pair_is_the_best_of_all_pairs(kind: str, together: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_saliency, "BLOCK", 4)  # so that blocks and bounds are at work on few features
    monkeypatch.setattr(_saliency, "TOGETHER", together)
    generator = torch.Generator().manual_seed(0)
    for d in (2, 3, 5, 17, 40):
        for _ in range(20):
            gain, loss = torch.randn((2, 8, d), generator=generator, dtype=torch.float64)
            if kind == "ties":
                gain, loss = gain.round(), loss.round()
            elif kind == "front":  # none beats another
                gain = gain.abs() / (1e-9 + gain.abs() + loss.abs())
                loss = 1 - gain
            elif kind == "opposed":
                loss = -gain + 0.1 * loss
            elif kind == "negative":
                gain, loss = gain - 1.5, loss - 1.5
            outside = torch.rand((8, d), generator=generator) < 0.2
            gain, loss = gain.masked_fill(outside, float("-inf")), loss.masked_fill(outside, float("-inf"))
            pair, possible = best_pair(gain, loss)
            best = brute_force(gain, loss)
            assert torch.equal(possible, best > 0)
            assert (pair[possible, 0] != pair[possible, 1]).all()
            score = gain.gather(1, pair).sum(1) * loss.gather(1, pair).sum(1)
            torch.testing.assert_close(score[possible], best[possible], rtol=1e-12, atol=0)


BIG = """
import resource, torch
from robustkit.attacks._saliency import best_pair
from robustkit.attacks.jsma import jsma
torch.set_num_threads(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
w = torch.randn((3 * 224 * 224, 3), generator=torch.Generator().manual_seed(0)) / 100
x = torch.rand((2, 3, 224, 224), generator=torch.Generator().manual_seed(1))
model = lambda p: p.flatten(1) @ w
y = model(x).argmax(1)
for saliency in ("prob", "logprob"):
    made = jsma(model, x, y, pair=True, gamma=5e-5, theta=1.0, saliency=saliency)
line = torch.rand((1, 3 * 112 * 112), generator=torch.Generator().manual_seed(2))
best_pair(line, 1 - line)  # the worst case: no feature is beaten by another; all pairs at once are 5.6 GB
assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2 * 2**20, "more than 2 GB"
"""


def test_pairs_of_150528_features_need_little_memory():
    done = subprocess.run([sys.executable, "-c", BIG], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_gamma_limits_the_features_and_saturated_ones_are_left_alone():
    x, y = image(*[0.5] * 9, 1.0), torch.tensor([0])
    weights = [[0.0] * 10, [1.0] * 9 + [9.0]]
    # Nine pixels give 0.5 each, the tenth is at the edge although its weight is the largest.
    made = jsma(linear(weights, [0.0, -15.4]), x, y, theta=0.1, gamma=0.4)  # 13.5 at x: needs 1.9
    assert len(changed(made, x)) == 4
    assert made.flatten()[9] == 1.0
    torch.testing.assert_close((made - x).sum(), torch.tensor(2.0).double())  # each to its edge, at 0.1 a step
    assert torch.equal(jsma(linear(weights, [0.0, -15.4]), x, y, theta=0.1, gamma=0.4, limit="steps"), x)
    assert torch.equal(jsma(linear(weights, [0.0, -15.6]), x, y, theta=0.1, gamma=0.4), x)  # needs 2.1: more pixels
    made = jsma(linear(weights, [0.0, -13.85]), x, y, theta=0.1, gamma=0.4, limit="steps")  # four steps are enough
    assert not torch.equal(made, x)


def test_gamma_counts_pairs_too():
    x, y = image(*[0.5] * 10), torch.tensor([0])
    weights = [[0.0] * 10, [1.0] * 10]
    made = jsma(linear(weights, [0.0, -6.9]), x, y, theta=0.1, gamma=0.5, pair=True)  # needs 1.9, four pixels give 2
    assert len(changed(made, x)) == 4
    assert torch.equal(jsma(linear(weights, [0.0, -7.1]), x, y, theta=0.1, gamma=0.5, pair=True), x)  # not five


def test_aims():
    # Class 1 is next best and needs two pixels, class 2 is least likely and needs the third, all but class 3 is far.
    weights = [[0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 4, 0], [0, 0, 0, 1]]
    model, x, y = linear(weights, [3.0, 1.5, -0.5, 0.0]), image(0.2, 0.2, 0.0, 0.0), torch.tensor([0])
    for aim, label, features in (("next-best", 1, [0, 1]), ("least-likely", 2, [2]), ("all", 2, [2])):
        made = jsma(model, x, y, theta=1.0, gamma=1.0, aim=aim)
        assert (model(made).argmax(1).item(), changed(made, x)) == (label, features)
    made = jsma(model, x, torch.tensor([1]), theta=1.0, gamma=1.0, targeted=True)
    assert (model(made).argmax(1).item(), changed(made, x)) == (1, [0, 1])
    assert torch.equal(jsma(model, x, torch.tensor([3]), theta=1.0, gamma=1.0, targeted=True), x)  # out of reach
    model, x = linear([[4, 1], [0, 0]], [-1.0, 0.0]), image(0.5, 0.5)
    assert changed(jsma(model, x, y, aim="away", increase=False, gamma=1.0), x) == [0]
    assert torch.equal(jsma(model, x, y, aim="away", increase=True, gamma=1.0), x)  # nothing to gain


def published(model, x: Tensor, y: Tensor, theta: float, steps: int) -> tuple[Tensor, int]:
    """Run the ADP code's rule on one image, written a second time: F_y itself, and steps until the label changes.

    Return the last image, and how many steps moved something.
    """
    moves, point = 0, x.clone()
    for _ in range(steps):
        if model(point).argmax(1) != y:
            break
        leaf = point.clone().requires_grad_(True)
        probabilities = model(leaf).softmax(1)[0]
        target, every = (
            torch.autograd.grad(part, leaf, retain_graph=True)[0].flatten()
            for part in (probabilities[y.item()], probabilities.sum())
        )
        others = every - target
        allowed = (point.flatten() < 1) & (target >= 0) & (others <= 0)
        assert allowed.any()  # else its rule is another, which is not written here
        chosen = (target * others.abs()).masked_fill(~allowed, -1).argmax()
        before, point = point, point.clone()
        point.view(-1)[chosen] = (point.view(-1)[chosen] - theta).clamp(0, 1)
        moves += int(not torch.equal(before, point))
    return point, moves


def test_the_published_mask_bars_white_features_and_stands_still_at_black_ones():
    weights = [[5.0, 4.0, 3.0, 2.0], [0.0] * 4]
    model, y, adp = linear(weights, [0.0, 4.0]), torch.tensor([0]), {"aim": "away", "increase": False, "theta": 0.25}
    x = image(0.0, 1.0, 0.5, 0.5)
    assert changed(jsma(model, x, y, gamma=1.0, **adp), x) == [1]  # 6.5 at x: down to 4 by the second, which may move
    assert torch.equal(jsma(model, x, y, gamma=1.0, movable="below-one", **adp), x)  # the first is at 0: nothing moves
    x = image(0.25, 1.0, 0.5, 0.5)
    trace = Trace(1, keep=1)
    assert torch.equal(jsma(model, x, y, gamma=1.0, movable="below-one", trace=trace, **adp), x)
    assert trace.history[0].tolist() == pytest.approx([-3.75, -2.5])  # one step, down to 0, is all
    x = image(0.25, 1.0, 0.5, 0.5)
    made = jsma(linear(weights, [0.0, 7.0]), x, y, gamma=1.0, movable="below-one", **adp)
    assert changed(made, x) == [0]


def test_the_published_rule_agrees_with_a_second_implementation(network, test_images):
    x, y = test_images[0][:24].double(), test_images[1][:24]
    model = network.double()
    with torch.no_grad():
        keep = model(x).argmax(1) == y
    x, y = x[keep], y[keep]
    adp = {"theta": 0.2, "gamma": 0.3, "aim": "away", "increase": False, "limit": "steps"}
    ours = jsma(model, x, y, movable="below-one", **adp)
    broken, stuck = 0, 0
    for i in range(len(x)):
        made, moves = published(model, x[i : i + 1], y[i : i + 1], 0.2, 19)
        won = bool(model(made).argmax(1) != y[i])
        torch.testing.assert_close(ours[i : i + 1], made if won else x[i : i + 1], rtol=0, atol=1e-9)
        broken, stuck = broken + won, stuck + (not won and moves < 19)
    with torch.no_grad():
        room = (model(jsma(model, x, y, **adp)).argmax(1) != y).sum()
    assert 0 < broken < room
    assert stuck > 0


def test_random_targets_follow_the_sample_not_the_batch():
    generator = torch.Generator().manual_seed(4)
    weights = torch.randn((5, 20), generator=generator).tolist()
    model, x = linear(weights, [0.0] * 5), torch.rand((12, 1, 4, 5), generator=generator, dtype=torch.float64)
    y, ids = model(x).argmax(1), torch.arange(12)
    more = {"theta": 0.2, "gamma": 1.0, "aim": "random"}
    whole = jsma(model, x, y, **more, generator=SampleGenerator(1, ids))
    half = jsma(model, x[6:], y[6:], **more, generator=SampleGenerator(1, ids[6:]))
    torch.testing.assert_close(whole[6:], half)
    other = jsma(model, x, y, **more, generator=SampleGenerator(2, ids))
    assert not torch.equal(whole, other)


def test_row_constants_do_not_matter():
    generator = torch.Generator().manual_seed(4)
    model = linear(torch.randn((5, 20), generator=generator).tolist(), [0.0] * 5)
    x = torch.rand((12, 1, 4, 5), generator=generator, dtype=torch.float64)
    y = model(x).argmax(1)
    for saliency in ("prob", "logprob"):
        more = {"gamma": 0.5, "saliency": saliency}
        shifted = jsma(lambda p: model(p) + 7 * p.flatten(1).sum(1, keepdim=True), x, y, **more)
        assert torch.equal(shifted, jsma(model, x, y, **more))


def test_saturated_probabilities_still_show_the_way():
    model, y = linear([[0, 0, 0], [1, 3, 2]], [200.0, -1.0]), torch.tensor([0])  # F_1 = e^-200 is 0 in float32
    x, trace = torch.zeros((1, 1, 1, 3)), Trace(1, keep=1)
    jsma(lambda p: model(p.double()).float(), x, y, theta=1.0, gamma=1.0, trace=trace)
    assert trace.history[0].tolist() == pytest.approx([-201, -198, -196, -195])  # by feature 1, 2, 0
    assert (trace.forwards.item(), trace.backwards.item()) == (5, 3)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"gamma": 0.0}, "gamma = 0 is out of range"),
        ({"gamma": 1.5}, "gamma = 1.5 is out of range"),
        ({"gamma": float("nan")}, "gamma = nan is out of range"),
        ({"theta": 0.0}, "theta = 0 is out of range"),
        ({"gamma": 0.2, "pair": False}, "give at least 0.25"),
        ({"gamma": 0.4, "pair": True}, "give at least 0.5"),
        ({"aim": "next"}, "aim 'next' is none of"),
        ({"saliency": "logit"}, "saliency 'logit' is none of"),
        ({"limit": "pixels"}, "limit 'pixels' is none of"),
        ({"movable": "white"}, "movable 'white' is none of room, below-one"),
    ],
)
def test_settings_out_of_range_are_refused(given: dict[str, object], says: str):
    x, y = torch.rand(2, 1, 2, 2).double(), torch.tensor([0, 0])
    with pytest.raises(UserError, match=says):
        jsma(linear([[0.0] * 4] * 2, [0.0] * 2), x, y, **{"gamma": 1.0, **given})


def test_torchattacks_agrees_where_it_is_given_the_target(trained, test_images):
    torchattacks = pytest.importorskip("torchattacks")
    x, y = (t[:16] for t in test_images)
    target = (y + 1) % 10
    theirs = torchattacks.JSMA(trained, theta=1.0, gamma=0.25)(x, y)
    ours = jsma(trained, x, target, theta=1.0, gamma=0.25, pair=True, saliency="logprob", limit="steps", targeted=True)
    with torch.no_grad():
        mine, peer = (trained(made).argmax(1) == target for made in (ours, theirs))
    assert peer.any()
    assert (mine | ~peer).all()
    torch.testing.assert_close(ours[peer], theirs[peer])
    better = jsma(trained, x, y, theta=1.0, gamma=0.25, pair=True)  # free to choose, and with the papers' F
    with torch.no_grad():
        won, peer = (trained(made).argmax(1) != y for made in (better, theirs))
    assert won.sum() >= peer.sum()
    both = won & peer
    assert size(better - x, "l0")[both].median() <= size(theirs - x, "l0")[both].median()


def test_torchattacks_has_a_fixed_target_and_ten_classes():
    torchattacks = pytest.importorskip("torchattacks")
    x, y = image(0.1, 0.2).float(), torch.tensor([2])
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 3))
    model[1].weight.data = torch.tensor([[1.0, 0.0], [0.0, 9.0], [2.0, 1.0]])
    model[1].bias.data = torch.tensor([0.0, -1.6, 0.5])
    with pytest.raises(IndexError):
        torchattacks.JSMA(model.eval())(x, y)  # it aims at label 3 of 3
    made = jsma(model, x, y, theta=0.5, gamma=1.0)
    assert model(made).argmax(1).item() == 1

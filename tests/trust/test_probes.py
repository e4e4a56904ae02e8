"""What each probe notes of models whose facts are known by construction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from trust_by_hand import SETTING, SHAPE, Net, ensemble_of, facts_of, grey, images, job, labelled, linear, slope

from robustkit.attacks import spec
from robustkit.data import Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.ensembles.fusion import mean_prob
from robustkit.evaluation.cell import run_cell
from robustkit.evaluation.crafting import rough_params
from robustkit.functional.norms import size
from robustkit.records.cells import Cell, Spec
from robustkit.records.samples import OK
from robustkit.trust import probe
from robustkit.trust._stronger import long_pgd
from robustkit.trust.outsider import CHALLENGERS

COVERED = {
    "corners", "forward", "from-others", "gradient", "gradient-free", "longer", "other-starts", "outputs",
    "outsider", "planted", "repeats", "saturation", "stability", "swap", "unbounded",
}  # fmt: skip
N = 12
X = images(N)
SOUND = ensemble_of(linear(3, seed=0), linear(3, seed=1))
SPLIT = labelled(SOUND, X)


def test_every_probe_is_here_or_in_a_file_of_its_own():
    assert set(probe.names()) == COVERED


# --- gradients, randomness, outputs: at x itself


def test_gradients_of_a_sound_model_are_there_and_right():
    found = facts_of("gradient", SOUND, SPLIT)
    assert not found["zero"].any()
    assert not found["not_finite"].any()
    w = torch.randn(2, 6, generator=torch.Generator().manual_seed(5))
    alone = Ensemble([Net(lambda x: x.flatten(1) @ w.T)])
    split = labelled(alone, X)
    p = torch.softmax(X.flatten(1) @ w.T, 1)
    hot = torch.nn.functional.one_hot(split.y, 2)
    by_hand = ((p - hot) @ w).view_as(X)  # of cross-entropy: W' (p - e_y)
    torch.testing.assert_close(job("gradient", alone, split).gradient(), by_hand, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "cut",
    [
        lambda x: linear(3)(x.detach()),
        lambda x: linear(3)(torch.round(8 * x) / 8),
        lambda x: linear(3)(x) * 0.0 + torch.tensor([1.0, 0.0, 0.0]),
    ],
    ids=["detached", "rounded", "constant"],
)
def test_gradients_that_are_cut_off_are_zero(cut):
    model = ensemble_of(cut)
    found = facts_of("gradient", model, labelled(model, X))
    assert found["zero"].all()
    assert not found["not_finite"].any()


def test_gradients_of_a_saturated_model_are_zero_where_the_softmax_is():
    """exp(-104) is below the smallest float32 there is."""
    model = ensemble_of(linear(3, scale=1e4))
    split = labelled(model, X)
    with torch.no_grad():
        gap = -model(X).topk(2).values[:, 1].numpy()
    found = facts_of("gradient", model, split)
    assert 0 < (gap > 110).sum() < N
    assert np.array_equal(found["zero"], gap > 104)


def test_one_sample_without_a_gradient_is_found_alone():
    def dead(x: Tensor) -> Tensor:
        z = linear(3)(x)
        return torch.where(torch.arange(len(x))[:, None] == 4, z.detach(), z)

    model = ensemble_of(dead)
    assert facts_of("gradient", model, labelled(model, X))["zero"].tolist() == [i == 4 for i in range(N)]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_gradients_that_are_not_finite_are_found_where_the_logits_are_sound(bad: float):
    class Poisoned(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx, g: Tensor) -> Tensor:
            g = g.clone()
            g[2, 0, 0, 0] = bad
            return g

    model = ensemble_of(lambda x: linear(3)(Poisoned.apply(x)))
    found = facts_of("gradient", model, labelled(model, X))
    assert found["not_finite"].tolist() == [i == 2 for i in range(N)]
    assert not found["zero"].any()


def test_repeats_of_a_deterministic_model_are_equal():
    found = facts_of("repeats", SOUND, SPLIT)
    assert (found["difference"] == 0).all()
    assert not found["flipped"].any()


def test_repeats_find_the_largest_difference_of_any_two_passes_to_the_first():
    steps = iter([0.0, 0.0, 0.0, 0.25, 0.0, 0.0])  # the first pass scores the clean images

    def drifting(x: Tensor) -> Tensor:
        z = torch.tensor([[0.0, -1.0]]).expand(len(x), 2).clone()
        z[3, 1] += next(steps)
        return z

    model = Ensemble([Net(drifting)], lambda z: z[0])  # raw outputs, so that the drift is what is seen
    split = Split(X, torch.zeros(N, dtype=torch.int64))
    found = facts_of("repeats", model, split)
    assert found["difference"].tolist() == [0.25 * (i == 3) for i in range(N)]
    assert not found["flipped"].any()


def test_repeats_find_labels_that_change():
    torch.manual_seed(0)
    noisy = ensemble_of(lambda x: torch.randn(len(x), 3))
    found = facts_of("repeats", noisy, Split(X, torch.zeros(N, dtype=torch.int64)))
    assert (found["difference"] > 0.1).all()
    assert found["flipped"].mean() > 0.5


def last_clamped(z: Tensor) -> Tensor:
    """One class of four clamped is no sign of anything."""
    return torch.cat([mean_prob(z)[:, :3], mean_prob(z)[:, 3:].clamp_min(-9)], 1)


@pytest.mark.parametrize(("function", "rule", "probabilities", "clamped"), [
    (linear(3), "mean-prob", False, False),
    (lambda x: torch.softmax(linear(3)(x), 1), "mean-prob", True, False),
    (lambda x: torch.sigmoid(linear(3)(x)), "mean-prob", False, False),  # in [0, 1] but no distribution
    (lambda x: torch.log_softmax(linear(5)(x), 1), "mean-prob", False, False),
    (linear(3), lambda z: torch.softmax(z, -1).mean(0), True, False),
    (linear(10, scale=20), lambda z: mean_prob(z).exp().clamp_min(1e-3).log(), False, True),
    (linear(4, scale=20), last_clamped, False, False),
], ids=["logits", "softmax", "sigmoid", "log-softmax", "probability-fusion", "clamped", "one-clamped"])  # fmt: skip
def test_outputs(function, rule, probabilities: bool, clamped: bool):
    model = ensemble_of(function, fusion=rule)
    found = facts_of("outputs", model, labelled(model, X))
    assert found["probabilities"].all() if probabilities else not found["probabilities"].any()
    assert (found["clamped"].mean() > 0.8) if clamped else not found["clamped"].any()


def test_one_member_of_many_that_gives_probabilities_is_enough():
    model = ensemble_of(linear(3), lambda x: torch.softmax(linear(3)(x), 1), linear(3, seed=4))
    assert facts_of("outputs", model, labelled(model, X))["probabilities"].all()


def test_rounding_of_three_classes_is_no_clamp():
    """Two equal smallest outputs happen; three exactly equal ones are a clamp."""
    tied = ensemble_of(lambda x: torch.tensor([[2.0, 0.0, 0.0, 1.0]]).expand(len(x), 4))
    assert not facts_of("outputs", tied, labelled(tied, X))["clamped"].any()
    three = ensemble_of(lambda x: torch.tensor([[2.0, 0.0, 0.0, 0.0]]).expand(len(x), 4))
    assert facts_of("outputs", three, labelled(three, X))["clamped"].all()


@pytest.mark.parametrize(("gap", "saturated"), [(79.5, False), (80.5, True)])
def test_saturation_is_a_gap_of_more_than_80(gap: float, saturated: bool):
    model = ensemble_of(lambda x: torch.tensor([[0.0, gap, -300.0]]).expand(len(x), 3))
    assert (facts_of("saturation", model, labelled(model, X))["saturated"] == saturated).all()


# --- noise


def test_stability_of_a_line_is_known():
    """The margin of z = (0, s m) is |s m|, m = mean(x) - 1/2: it changes by |mean(noise)| / |m|, at most 1."""
    model = ensemble_of(slope(3.0))
    split = labelled(model, grey(0.5 + 0.05, 0.5 + 0.2, 0.5 - 0.4))
    found = facts_of("stability", model, split, eps=0.1, draws=1500)["change"]
    # The mean of 6 numbers that are uniform in +-0.05 is nearly normal, of deviation 0.0118.
    expected = np.sqrt(2 / np.pi) * (0.05 / np.sqrt(3) / np.sqrt(6)) / np.array([0.05, 0.2, 0.4])
    np.testing.assert_allclose(found, expected, rtol=0.06)


def test_stability_of_a_margin_that_jumps_is_lost():
    """A checkerboard: the sign of the margin changes many times within the noise."""

    def checker(x: Tensor) -> Tensor:
        side = torch.sign(torch.sin(400 * x.mean((1, 2, 3))))
        return torch.stack([torch.zeros(len(x)), 5 * side], 1)

    model = ensemble_of(checker)
    found = facts_of("stability", model, labelled(model, X), eps=0.1)["change"]
    assert (found > 0.3).all()  # half of the draws lie on the other colour, and count as changed by all of it
    assert found.mean() == pytest.approx(0.5, abs=0.08)
    constant = ensemble_of(lambda x: torch.tensor([[0.0, 5.0]]).expand(len(x), 2))
    assert (facts_of("stability", constant, labelled(constant, X))["change"] == 0).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_corners_lie_at_the_edge_of_the_ball(norm: str):
    made = job("corners", SOUND, SPLIT, eps=0.1, norm=norm)
    points = torch.cat(list(made.edge(700)))
    assert points.shape == (700, N, *SHAPE)
    sizes = size((points - X).flatten(0, 1), norm)
    torch.testing.assert_close(sizes, torch.full_like(sizes, 0.1), rtol=1e-4, atol=1e-6)  # X is far from the box
    if norm == "linf":
        torch.testing.assert_close((points - X).abs(), torch.full_like(points, 0.1), atol=1e-6, rtol=0)
    at_the_wall = job("corners", SOUND, labelled(SOUND, grey(0.0, 1.0)), eps=0.1, norm=norm)
    for part in at_the_wall.edge(50):
        assert 0 <= part.min() <= part.max() <= 1


def test_corners_break_what_a_corner_breaks_and_nothing_else():
    """Z = s (mean(x) - 1/2): the corners' means are within eps of x, and a few in 64 reach eps exactly."""
    model = ensemble_of(slope(30.0))
    distances = [0.02, 0.09, 0.11, 0.2]
    split = labelled(model, grey(*(0.5 + d for d in distances)))
    found = facts_of("corners", model, split, eps=0.1, draws=1000)
    assert found["broken"].tolist() == [True, True, False, False]


# --- attacks


LEVELS = grey(0.52, 0.56, 0.595, 0.605, 0.66, 0.42, 0.3)


@pytest.mark.parametrize("level", ["quick", "full"])
@pytest.mark.parametrize(("name", "params"), [
    ("longer", {"steps": 20}), ("gradient-free", {}), ("swap", {}), ("from-others", {}),
    ("other-starts", {}), *(("outsider", {"by": spec(name, **params).to_json()}) for name, _, params in CHALLENGERS),
], ids=lambda value: value if isinstance(value, str) else value.get("by", {}).get("name", ""))  # fmt: skip
def test_attacks_of_probes_break_what_can_be_broken(name: str, params: dict, level: str):
    model = ensemble_of(slope(30.0), slope(20.0))
    split = labelled(model, LEVELS)
    more = {"others": {"other": ensemble_of(slope(10.0))}} if name == "from-others" else {}
    found = facts_of(name, model, split, eps=0.1, level=level, **params, **more)
    assert found["broken"].tolist() == [True, True, True, False, False, True, False]  # less than eps from the boundary


@pytest.mark.parametrize("name", ["fab", "deepfool", "fmn"])
def test_an_attack_that_looks_for_the_nearest_boundary_breaks_what_lies_within_the_budget(name: str):
    model = ensemble_of(slope(30.0), slope(20.0))
    split = labelled(model, LEVELS)
    found = facts_of("outsider", model, split, eps=0.1, by=spec(name).to_json())
    assert found["broken"].tolist() == [True, True, True, False, False, True, False]
    wider = facts_of("outsider", model, split, eps=0.17, by=spec(name).to_json())
    assert wider["broken"].tolist() == [True, True, True, True, True, True, False]


@pytest.mark.parametrize("name", ["fab", "deepfool", "fmn"])
def test_it_is_cut_to_a_budget_that_it_does_not_know_of(name: str):
    """Its images are projected, which is no fault of its own, and it is not tried on a rougher model first."""
    model = ensemble_of(slope(30.0))
    split = labelled(model, LEVELS)
    cell = Cell("attack", "own", "d", spec(name), 0.1, "linf")
    clean = run_cell(Cell("clean", "own", "d"), model, split, None, SETTING).samples
    done = run_cell(cell, model, split, clean, SETTING)
    assert done.warnings == ()
    assert set(done.samples.status.tolist()) == {OK}
    assert done.samples.linf.max() <= 0.1 + 1e-6
    assert (~done.samples.right).tolist() == [True, True, True, False, False, True, False]
    assert rough_params(replace(cell, attack=spec(name, steps=100))) == {}
    assert rough_params(replace(cell, attack=spec("pgd", steps=100)))["steps"] == 50


@pytest.mark.parametrize("steps", [1, 2, 5, 10, 20, 50, 400])
def test_the_step_of_a_longer_attack_crosses_the_ball(steps: int):
    step = long_pgd(steps, 0.1).params["step_size"]
    assert steps * step >= 0.2 * (steps > 1)
    assert step == pytest.approx(max(0.25 / steps, 0.1 / max(10, steps // 5)))


def test_what_is_wrong_already_counts_as_broken_by_nothing():
    """A misclassified sample is no adversarial example: the evaluator leaves it as it is."""
    model = ensemble_of(slope(30.0))
    split = labelled(model, LEVELS)
    wrong = Split(split.tensor(), 1 - split.y)
    assert not facts_of("longer", model, wrong, eps=0.1, steps=20)["broken"].any()


def test_a_gradient_that_points_the_wrong_way_is_beaten_by_what_looks_at_none():
    class Flipped(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx, g: Tensor) -> Tensor:
            return -g

    model = ensemble_of(lambda x: slope(30.0)(Flipped.apply(x)))
    split = labelled(model, grey(0.57, 0.58, 0.59, 0.43, 0.41))
    assert not facts_of("longer", model, split, eps=0.1, steps=20, restarts=1)["broken"].any()
    assert facts_of("gradient-free", model, split, eps=0.1)["broken"].all()


def test_a_hidden_member_is_found_by_the_swap():
    """The fusion shows no gradient; its members do."""
    hidden = ensemble_of(slope(30.0), slope(20.0), fusion=lambda z: mean_prob(z).detach() + 0 * z.sum(0))
    split = labelled(hidden, grey(0.58, 0.59, 0.42))
    assert not facts_of("longer", hidden, split, eps=0.1, steps=10, restarts=1)["broken"].any()
    assert facts_of("swap", hidden, split, eps=0.1)["broken"].all()


def test_from_others_transfers_from_each_of_them():
    """One of the others shares the boundary; the other one leads away from it."""
    target = ensemble_of(lambda x: slope(30.0)(x.detach()))
    same, away = ensemble_of(slope(5.0)), ensemble_of(slope(-5.0))
    split = labelled(target, grey(0.53, 0.47, 0.7))
    expected = {("a",): [False] * 3, ("b",): [True, True, False], ("a", "b"): [True, True, False]}
    models = {"a": away, "b": same}
    for keys, broken in expected.items():
        chosen = {k: models[k] for k in keys}
        assert facts_of("from-others", target, split, eps=0.1, others=chosen)["broken"].tolist() == broken


def pgd(**params) -> dict:
    return {"attack": spec("pgd", **params).to_json()}


def test_unbounded_stands_only_where_no_image_is_anything_else():
    model = ensemble_of(slope(30.0))
    split = labelled(model, LEVELS)
    assert not facts_of("unbounded", model, split, eps=0.1, **pgd(steps=10))["standing"].any()
    stubborn = ensemble_of(slope(30.0, offset=40.0))  # class 1 whatever the image
    found = facts_of("unbounded", stubborn, labelled(stubborn, LEVELS), eps=0.1, **pgd(steps=10))
    assert found["standing"].all()
    blind = ensemble_of(lambda x: slope(30.0)(x.detach()))
    found = facts_of("unbounded", blind, labelled(blind, LEVELS), eps=0.1, **pgd(steps=10, random_start=False))
    assert found["standing"].all()


@pytest.mark.parametrize(("norm", "largest"), [("linf", 1.0), ("l2", 6**0.5)])
def test_without_a_budget_means_the_whole_box_and_steps_grow_with_it(norm: str, largest: float):
    made = job("unbounded", SOUND, SPLIT, eps=0.1, norm=norm, **pgd(steps=10, step_size=0.025))
    assert made.largest == pytest.approx(largest)
    assert made.attack(made.largest).params["step_size"] == pytest.approx(largest / 4)
    assert made.attack(0.1).params["step_size"] == pytest.approx(0.025)
    default = job("unbounded", SOUND, SPLIT, eps=0.1, **pgd(steps=10))
    assert default.attack(1.0).params["step_size"] is None  # eps / 10 already


# --- the job


def test_a_probe_draws_per_sample_and_other_numbers_than_the_attack():
    whole, part = (job("corners", SOUND, s) for s in (SPLIT, SPLIT.select(torch.tensor([3, 7, 8]))))
    for a, b in zip(whole.edge(5), part.edge(5), strict=True):
        assert torch.equal(a[:, [3, 7, 8]], b)
    starts = [next(iter(job(name, SOUND, SPLIT).noisy(0.1, 1))) for name in ("stability", "planted")]
    assert not torch.equal(*starts)


@pytest.mark.parametrize(("n", "draws"), [(1, 700), (12, 100), (12, 1), (300, 3)])
def test_draws_come_in_parts_that_fill_a_batch_and_none_is_lost(n: int, draws: int):
    made = job("corners", SOUND, labelled(SOUND, images(n)))
    counts = list(made._parts(draws))
    assert sum(counts) == draws
    assert max(counts) * n <= max(256, n)
    assert len(counts) == -(-draws // max(1, 256 // n))


def test_margins_are_those_of_each_draw():
    made = job("stability", SOUND, SPLIT)
    points = torch.stack([X, 1 - X, X.flip(3)])
    with torch.no_grad():
        for row, x in zip(made.margins(points), points, strict=True):
            z = SOUND(x)
            own = z[torch.arange(N), SPLIT.y]
            others = z.scatter(1, SPLIT.y[:, None], -torch.inf).amax(1)
            torch.testing.assert_close(row, others - own)


def test_selecting_rows_keeps_images_labels_and_clean_predictions_together():
    made = job("stability", SOUND, SPLIT).select(np.array([5, 2]))
    assert torch.equal(made.x, X[[5, 2]])
    assert torch.equal(made.y, SPLIT.y[[5, 2]])
    assert made.clean.prediction.tolist() == SPLIT.y[[5, 2]].tolist()


def test_eot_of_a_remedy_or_of_the_study_reaches_the_attack():
    passes = [0]

    def counted(x: Tensor) -> Tensor:
        if x.requires_grad:
            passes[0] += 1
        return slope(30.0)(x)

    def gradients_taken(study_eot: int, **params) -> int:
        model = ensemble_of(counted)
        split = labelled(model, grey(0.8, 0.9))
        made = job("longer", model, split, eot=study_eot)
        passes[0] = 0
        made.broken_by(Spec("attack", "pgd", {**spec("pgd", steps=4).params, **params}))
        return passes[0]

    once = gradients_taken(1)
    assert once >= 4
    assert gradients_taken(1, eot=3) == gradients_taken(3) == 3 * once

"""Optimisers and schedules, against numbers worked by hand and torch's own."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from robustkit.base.errors import UserError
from robustkit.defenses import defense
from robustkit.ensembles.ensemble import Ensemble
from robustkit.records.cells import Spec
from robustkit.training import optim
from robustkit.training.spec import TrainSpec, paper, settings, shares

SPEC = TrainSpec(Spec("defense", "baseline", {}), "digits", "sha", "small-resnet", epochs=90, lr=0.1)


def _rates(spec: TrainSpec) -> list[float]:
    on = optim.optimiser(spec, [nn.Parameter(torch.zeros(1))])
    schedule, rates = optim.schedule(spec, on), []
    for _ in range(spec.epochs):
        rates.append(on.param_groups[0]["lr"])
        on.step()
        schedule.step()
    return rates


def test_steps_fall_to_a_tenth_at_the_shares():
    rates = _rates(SPEC)
    assert rates[:60] == [0.1] * 60
    assert rates[60:80] == pytest.approx([0.01] * 20)
    assert rates[80:] == pytest.approx([0.001] * 10)
    assert _rates(replace(SPEC, epochs=4, drops=".3,.6,.9")) == pytest.approx([0.1, 0.01, 0.001, 0.001])


def test_cosine_ends_at_one_millionth_and_constant_stays():
    rates = _rates(replace(SPEC, schedule="cosine"))
    for epoch in (0, 30, 45, 89):
        assert rates[epoch] == pytest.approx(1e-6 + (0.1 - 1e-6) * (1 + math.cos(math.pi * epoch / 90)) / 2)
    assert _rates(replace(SPEC, schedule="constant")) == [0.1] * 90


def test_weights_that_only_decay_come_to_rest_at_zero():
    weight = nn.Parameter(torch.cat([torch.linspace(1e-5, 2e-5, 64), torch.tensor([0.5])]))
    on = optim.optimiser(replace(SPEC, optimiser="adam", lr=3e-4, weight_decay=1e-4), [weight])

    def step(gradient: float) -> torch.Tensor:
        weight.grad = torch.tensor([0.0] * 64 + [gradient])  # no image moves the first 64
        on.step()
        return weight.detach().clone()

    for _ in range(3000):
        before = step(float(weight.detach()[-1]) - 1)
    denormal = (before != 0) & (before.abs() < torch.finfo(torch.float32).tiny)
    assert denormal.any()  # what this is for: decay ends above zero
    optim.settle(on)
    assert torch.equal(weight.detach(), torch.where(denormal, 0, before))
    after = step(0.0)
    assert (after[denormal] == 0).all()
    assert after[-1] != before[-1]  # what is remembered of others goes on


def test_adabelief_two_steps_by_hand():
    p = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    on = optim.AdaBelief([p], lr=0.1, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.5)
    value, mean, belief = 1.0, 0.0, 0.0
    for t, gradient in ((1, 2.0), (2, -1.0)):
        p.grad = torch.tensor([gradient], dtype=torch.float64)
        on.step()
        g = gradient + 0.5 * value
        mean = 0.9 * mean + 0.1 * g
        belief = 0.999 * belief + 0.001 * (g - mean) ** 2 + 1e-8
        value -= 0.1 * (mean / (1 - 0.9**t)) / (math.sqrt(belief / (1 - 0.999**t)) + 1e-8)
        assert p.item() == pytest.approx(value, rel=1e-12)


def test_sgd_is_nesterov_and_adam_is_adam():
    sgd = optim.optimiser(replace(SPEC, optimiser="sgd", momentum=0.8), [nn.Parameter(torch.zeros(1))])
    assert (sgd.defaults["nesterov"], sgd.defaults["momentum"], sgd.defaults["weight_decay"]) == (True, 0.8, 1e-4)
    assert isinstance(optim.optimiser(SPEC, [nn.Parameter(torch.zeros(1))]), torch.optim.Adam)
    assert isinstance(
        optim.optimiser(replace(SPEC, optimiser="adabelief"), [nn.Parameter(torch.zeros(1))]), optim.AdaBelief
    )


def test_average_of_the_weights_by_hand():
    ensemble = Ensemble([nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))])
    linear, norm = ensemble.members[0]
    average = optim.averaged(ensemble, 0.75)
    expected_weight = expected_mean = None
    for step in range(3):
        with torch.no_grad():
            linear.weight.fill_(float(step))
            norm.running_mean.fill_(10.0 * step)
        average.update_parameters(ensemble)
        expected_weight = step if expected_weight is None else 0.75 * expected_weight + 0.25 * step
        expected_mean = 10.0 * step if expected_mean is None else 0.75 * expected_mean + 0.25 * 10.0 * step
    averaged_linear, averaged_norm = average.module.members[0]
    assert averaged_linear.weight.item() == pytest.approx(expected_weight)
    assert averaged_norm.running_mean.item() == pytest.approx(expected_mean)


def test_settings_are_read_and_refused():
    given = {
        "lr": "1e-2", "batch_size": "32", "optimiser": "sgd", "schedule": "cosine", "drops": "1/2", "ema": ".9",
        "flip": "yes",
    }  # fmt: skip
    assert settings(given) == {
        "lr": 0.01, "batch_size": 32, "optimiser": "sgd", "schedule": "cosine", "drops": "1/2", "ema": 0.9,
        "flip": True,
    }  # fmt: skip
    for bad, said in (
        ({"optimiser": "adm"}, "unknown train.optimiser 'adm': did you mean 'adam'"),
        ({"batch_size": "1.5"}, "train.batch_size '1.5' is not a whole number"),
        ({"flip": "perhaps"}, "train.flip 'perhaps' is not a yes or no"),
        ({"label_smoothing": "1"}, "label_smoothing 1 is out of range"),
        ({"learning": "1"}, "unknown parameter in --set train 'learning'"),
        ({"drops": "8/9,2/3"}, "train.drops '8/9,2/3' is not a list of ascending shares"),
    ):
        with pytest.raises(UserError, match=said):
            settings(bad)
    assert shares("2/3, 8/9", "d") == pytest.approx((2 / 3, 8 / 9))
    assert shares("", "d") == ()


def test_papers_recipes_fit_a_training():
    for entry in defense:
        if "paper" in entry.facts:
            for dataset in ("mnist", "cifar10", "something else"):
                recipe, params = paper(entry.name, dataset)
                replace(SPEC, **recipe)
                assert set(params) <= {p.name for p in entry.params}
    recipe, params = paper("sdde", "mnist")
    assert (recipe["epochs"], recipe["arch"], recipe["fusion"], params) == (50, "lenet", "mean-logit", {"lam": 0.1})
    recipe, params = paper("adp+advt-pgd", "cifar10")
    assert (recipe["batch_size"], recipe["epochs"], params) == (128, 180, {})


def test_a_defence_without_a_paper_says_so():
    @defense("test-without-paper")
    def without(outputs):
        """Nothing."""

    try:
        with pytest.raises(UserError, match="'test-without-paper' has no hyperparameters of a paper"):
            paper("test-without-paper", "digits")
    finally:
        defense.remove("test-without-paper")

"""The attacker who knows the detector, against optima that are known."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustkit import attacks
from robustkit.attacks.adaptive_pgd import _Weights
from robustkit.base.errors import UserError
from robustkit.ensembles.ensemble import Ensemble
from robustkit.functional.batching import Batched
from robustkit.functional.eot import Averaged
from robustkit.functional.sampling import SampleGenerator
from robustkit.functional.trace import Trace
from robustkit.metrics.roc import roc
from robustkit.metrics.scores import SCORES

adaptive, pgd = attacks.get("adaptive-pgd"), attacks.get("pgd")
EPS = 0.2


class Planted(nn.Module):
    """Two pixels a, b around 0.5: wrong where a > 0.6; all logits rise with b and fall, twice as fast, with a.

    So the energy of a misclassified image is highest at a = 0.6, b = 0.5 + eps. An attacker who only wants a
    misclassification goes to a = 0.5 + eps and does not move b.
    """

    def forward(self, x: Tensor) -> Tensor:
        a, b = (x.flatten(1) - 0.5).unbind(1)
        shift = 10 * b - 20 * a
        return torch.stack([shift, shift + 5 * a - 0.5], 1)


def planted() -> tuple[nn.Module, Tensor, Tensor]:
    return Planted(), torch.full((3, 1, 1, 2), 0.5), torch.zeros(3, dtype=torch.int64)


def test_the_known_optimum_of_a_linear_model_is_found():
    model, x, y = planted()
    made = adaptive(model, x, y, eps=EPS, score="energy", confidence=0.01)
    best = torch.tensor([0.6 + 0.01 / 5, 0.5 + EPS])  # there the margin is the confidence
    energy = [float(torch.logsumexp(model(v), 1).max()) for v in (made, best.view(1, 1, 1, 2), x)]
    assert energy[0] <= energy[1] + 1e-4
    assert energy[0] >= energy[1] - 0.01 * abs(energy[1] - energy[2]) - 0.05
    torch.testing.assert_close(made.flatten(1), best.expand(3, 2), atol=0.004, rtol=0)
    assert (model(made).argmax(1) == 1).all()
    oblivious = pgd(model, x, y, eps=EPS, loss="margin", steps=100, stop_early=False)
    assert (oblivious[..., 0] > 0.69).all()
    assert (torch.logsumexp(model(oblivious), 1) < energy[0] - 2).all()


def test_the_weight_is_searched():
    """A weight that pulls the image back over the boundary finds nothing; the search comes down from it."""
    model, x, y = planted()
    stuck = adaptive(model, x, y, eps=EPS, score="energy", weight=1e3, search_steps=1)
    assert (model(stuck).argmax(1) == 0).all()
    found = adaptive(model, x, y, eps=EPS, score="energy", weight=1e3, search_steps=6)
    assert (model(found).argmax(1) == 1).all()


def test_weights_by_hand():
    weights = _Weights(torch.tensor([0.1, 0.1, 0.1]))
    weights.update(torch.tensor([True, False, True]))
    torch.testing.assert_close(weights.value, torch.tensor([1.0, 0.01, 1.0]))
    weights.update(torch.tensor([True, True, False]))
    torch.testing.assert_close(weights.value, torch.tensor([10.0, math.sqrt(0.001), math.sqrt(0.1)]))


def linear(members: int, classes: int, generator: torch.Generator) -> Ensemble:
    """Linear members of two pixels."""
    layers = []
    for _ in range(members):
        layer = nn.Linear(2, classes)
        layer.weight.data = 6 * torch.randn(classes, 2, generator=generator)
        layer.bias.data = torch.randn(classes, generator=generator) - layer.weight.data.sum(1) / 2
        layers.append(nn.Sequential(nn.Flatten(), layer))
    return Ensemble(layers).eval()


@pytest.mark.parametrize("score", ["log-ed", "msp", "energy"])
def test_no_point_of_the_ball_looks_more_normal(score: str):
    """Against every point of a grid over the ball of two pixels, misclassified and scored in NumPy."""
    generator = torch.Generator().manual_seed(4)
    reached, better = [], []
    side = torch.linspace(-EPS, EPS, 41)
    grid = torch.cartesian_prod(side, side)
    for _ in range(3):
        ensemble = linear(3, 5, generator)
        x = 0.3 + 0.4 * torch.rand(8, 1, 1, 2, generator=generator)
        y = ensemble(x).argmax(1)
        made = adaptive(ensemble, x, y, eps=EPS, score=score, steps=30, search_steps=8, generator=0)
        for one, label, mine in zip(x, y, made, strict=True):
            points = (one.flatten() + grid).view(-1, 1, 1, 2)
            with torch.no_grad():
                logits, own = ensemble.member_logits(points), ensemble.member_logits(mine[None])
                fused, of_mine = ensemble.fuse(logits), ensemble.fuse(own)
            wrong = (fused.argmax(1) != label).numpy()
            if wrong.mean() < 0.02:
                continue  # nothing to be found, or a corner that a confidence of 0.01 misses
            assert of_mine.argmax(1) != label
            values = SCORES[score](logits.numpy(), fused.numpy())
            span, top = np.ptp(values), values[wrong].max()
            found = SCORES[score](own.numpy(), of_mine.numpy())[0]
            reached.append(found >= top - 0.03 * span)
            better.append(found >= np.quantile(values[wrong], 0.8))
    assert len(reached) >= 15
    assert np.mean(better) >= 0.85
    assert np.mean(reached) >= 0.75  # the rest ended in a local optimum: another class


def test_it_defeats_detectors_that_an_oblivious_attack_does_not(trained: Ensemble, test_images):
    x, y = test_images[0][:60], test_images[1][:60]

    def outputs(images: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            logits = trained.member_logits(images)
        return logits, trained.fuse(logits)

    clean, fused = outputs(x)
    right = fused.argmax(1) == y
    oblivious = pgd(trained, x, y, eps=EPS, stop_early=False)
    for score in ("log-ed", "msp"):
        areas, evaded = [], []
        for made in (oblivious, adaptive(trained, x, y, eps=EPS, score=score, steps=50, search_steps=1)):
            assert (made - x).abs().max() <= EPS + 1e-6
            z, z_fused = outputs(made)
            adversarial = right & (z_fused.argmax(1) != y)
            assert adversarial.sum() > 30
            other = SCORES[score](z[:, adversarial].numpy(), z_fused[adversarial].numpy())
            found = roc(SCORES[score](clean.numpy(), fused.numpy()), other)
            areas.append(found.auroc)
            evaded.append(found.fpr95 * float(adversarial.sum() / right.sum()))
        assert areas[1] < areas[0] - 0.05
        assert evaded[1] > evaded[0]


def test_without_members_it_works_on_the_output(trained: Ensemble, test_images):
    x, y = test_images[0][:20], test_images[1][:20]
    attack = partial(adaptive, x=x, y=y, eps=EPS, steps=8, search_steps=1)
    alone = Ensemble(list(trained.members)[:1])
    for score in ("msp", "energy"):
        made = attack(trained.members[0], score=score)
        torch.testing.assert_close(made, attack(alone, score=score), atol=1e-6, rtol=0)
        assert not torch.equal(made, attack(trained.members[0], score="log-ed"))
    # What compares members says nothing of one: a misclassified image is left where it is.
    assert torch.equal(attack(alone, score="log-ed"), attack(alone, score="mutual-information"))


def test_batches_do_not_matter(trained: Ensemble, test_images):
    x, y, ids = test_images[0][:12], test_images[1][:12], torch.arange(12)

    def run(rows: Tensor, model: nn.Module) -> Tensor:
        generator = SampleGenerator(0, ids[rows], "adaptive")
        return adaptive(model, x[rows], y[rows], eps=0.1, steps=4, search_steps=2, score="msp", generator=generator)

    whole = run(ids, trained)
    parts = [run(rows, trained) for rows in torch.split(ids, [1, 6, 5])]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-5, rtol=0)
    torch.testing.assert_close(run(ids, Batched(trained, 5)), whole, atol=1e-5, rtol=0)
    torch.testing.assert_close(run(ids, Averaged(trained, 2)), whole, atol=1e-5, rtol=0)  # twice the same pass


def test_every_pass_is_counted(trained: Ensemble, test_images):
    trace = Trace(5, keep=2)
    adaptive(trained, test_images[0][:5], test_images[1][:5], eps=0.1, steps=3, search_steps=2, trace=trace)
    assert (trace.forwards == 8).all()
    assert (trace.backwards == 8).all()
    assert trace.history.shape == (2, 8)


def test_an_unknown_score_is_refused(test_images):
    with pytest.raises(UserError, match="unknown adaptive-pgd.score 'mps': did you mean 'msp'"):
        adaptive(Planted(), *planted()[1:], eps=0.1, score="mps")

"""BARRE and IGAT against NumPy, enumeration and what their authors prove."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustkit import data, defenses
from robustkit.base import options
from robustkit.base.errors import UserError
from robustkit.defenses import Outputs
from robustkit.defenses.barre import barre, errors_under_attack, onto_simplex, probabilities, rounded
from robustkit.defenses.igat import igat, shares, surest_mistakes
from robustkit.ensembles.ensemble import Ensemble
from robustkit.pipeline import models_under_test
from robustkit.pipeline.models_under_test import train_spec
from robustkit.records.cells import Spec
from robustkit.training import loop, stages
from robustkit.training.beforehand import check_training
from robustkit.training.loop import Training, fit
from robustkit.training.ranks import Ranks
from robustkit.training.spec import TrainSpec

BARRE = TrainSpec(
    Spec("defense", "barre", {"eps": 0.05, "steps": 2, "images": 40}), "digits", "sha", "networks:normed", members=3,
    epochs=4, fusion="random", speed="off", lr=3e-3,
)  # fmt: skip


def softmax(z: np.ndarray) -> np.ndarray:
    p = np.exp(z - z.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


@pytest.mark.parametrize("members", [2, 3, 5])
def test_igat_against_numpy(members: int):
    generator = torch.Generator().manual_seed(members)
    z = 2 * torch.randn((members, 40, 6), generator=generator, dtype=torch.float64)
    y = torch.randint(0, 6, (40,), generator=generator)
    p = softmax(z.numpy())
    wanted_a = wanted_r = ce = 0.0
    for b in range(40):
        own = p[:, b, y[b]]
        ce -= np.log(own).mean()
        if p[:, b].mean(0).argmax() == y[b]:
            continue
        order = np.argsort(own)
        for rank, m in enumerate(order):
            wanted_a -= 2.0**rank / (2**members - 1) * np.log(own[m])
        for m in range(members):
            wanted_r -= np.log(1 - np.delete(p[m, b], y[b]).max())
    found = igat(Outputs(z, y), alpha=0.7, beta=0.3)
    assert wanted_a > 0
    assert float(found.total) == pytest.approx((ce + 0.7 * wanted_a + 0.3 * wanted_r) / 40, rel=1e-12)


def test_the_terms_of_igat_count_once_the_members_are_trained(digits: data.Dataset):
    z, y = torch.tensor([[[2.0, 0.0]], [[1.0, 3.0]]]), torch.tensor([1])
    ce = float(igat(Outputs(z, y, trained=0.49)).total)
    assert ce == pytest.approx(float(torch.nn.functional.cross_entropy(z.flatten(0, 1), y.repeat(2))))
    assert float(igat(Outputs(z, y, trained=0.5)).total) > ce + 1
    spec = TrainSpec(
        Spec("defense", "igat", {"after": 0.4}), "digits", "sha", "networks:normed", members=2, epochs=5, speed="off"
    )
    history = fit(spec, digits).history
    counted = [row["loss"] > row["ce"] + 1e-4 for row in history]
    assert counted == [False, False, True, True, True]
    with_all = fit(replace(spec, epochs=1), digits)
    assert with_all.history[0]["loss"] > with_all.history[0]["ce"] + 1e-4  # the last epoch always has them


@pytest.mark.parametrize(("after", "kept"), [(0.0, 2), (0.6, 4), (1.0, 5)])
def test_no_epoch_before_is_kept(digits: data.Dataset, monkeypatch: pytest.MonkeyPatch, after: float, kept: int):
    falling = iter([0.8, 0.9, 0.5, 0.4, 0.3])
    monkeypatch.setattr(loop, "accuracies", lambda *_: [next(falling)])
    spec = TrainSpec(
        Spec("defense", "igat", {"after": after}), "digits", "sha", "networks:normed", members=2, epochs=5, speed="off"
    )
    assert fit(spec, digits).metrics["best_epoch"] == kept


def test_ranks_share_by_powers_of_two():
    confidence = torch.tensor([[0.1, 0.9], [0.5, 0.2], [0.3, 0.4]])
    torch.testing.assert_close(shares(confidence), torch.tensor([[1.0, 4], [4, 1], [2, 2]]) / 7)


def test_the_surest_mistake_has_a_finite_loss_and_a_gradient():
    z = torch.tensor([[[0.0, 90.0, 1.0]]], requires_grad=True)
    found = surest_mistakes(z, torch.tensor([0]))
    (gradient,) = torch.autograd.grad(found.sum(), z)
    assert found.item() == pytest.approx(90 - np.log(np.exp(0) + np.exp(1)), rel=1e-6)
    assert float(gradient[0, 0, 1]) == pytest.approx(1, abs=1e-6)


def test_the_nearest_probabilities_are_found():
    generator = torch.Generator().manual_seed(0)
    steps = [np.array(w) / 20 for w in product(range(21), repeat=3) if sum(w) == 20]
    for _ in range(30):
        point = 2 * torch.randn(3, generator=generator, dtype=torch.float64)
        found = onto_simplex(point)
        assert float(found.sum()) == pytest.approx(1)
        assert (found >= 0).all()
        nearest = min(float(np.linalg.norm(point.numpy() - w)) for w in steps)
        assert float((found - point).norm()) <= nearest + 1e-9
    inside = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    torch.testing.assert_close(onto_simplex(inside), inside)


def test_probabilities_are_thousandths_that_sum_to_one():
    found = rounded(torch.full((3,), 1 / 3, dtype=torch.float64))
    assert sorted(found.tolist()) == [0.333, 0.333, 0.334]


class Fixed(nn.Module):
    """Gives one answer whatever the image is, with a weight that attacks can follow."""

    def __init__(self, answer: int) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor) -> Tensor:
        z = torch.zeros(len(x), 4, dtype=x.dtype) + 0 * x.flatten(1).sum(1, keepdim=True)
        return z + torch.eye(4, dtype=x.dtype)[self.answer]


def test_a_member_that_is_always_wrong_is_never_drawn():
    ensemble = Ensemble([Fixed(0), Fixed(1), Fixed(1)], "random").eval()
    x, y = torch.rand(12, 1, 4, 4), torch.zeros(12, dtype=torch.int64)
    given = {"eps": 0.1, "steps": 2, "generator": torch.Generator().manual_seed(0)}
    errors = errors_under_attack(ensemble, torch.full((3,), 1 / 3, dtype=torch.float64), x, y, **given)
    assert errors.tolist() == [0, 1, 1]
    assert probabilities(ensemble, x, y, images=12, **given) == (1.0, 0.0, 0.0)


def test_probabilities_are_no_worse_than_equal_ones_where_they_were_sought(digits: data.Dataset):
    ensemble = fit(BARRE, digits).ensemble
    assert sum(ensemble.chances) == pytest.approx(1)
    assert ensemble.fusion.startswith("random:")
    x, y = digits.split("train").batch(range(40))[1:]
    given = {"eps": 0.05, "steps": 2}
    found = probabilities(ensemble, x, y, images=40, generator=torch.Generator().manual_seed(1), **given)
    lowest = []
    for chances in (torch.tensor(found, dtype=torch.float64), torch.full((3,), 1 / 3, dtype=torch.float64)):
        errors = errors_under_attack(ensemble, chances, x, y, generator=torch.Generator().manual_seed(1), **given)
        lowest.append(float(chances @ errors))
    assert lowest[0] <= lowest[1] + 1e-9


def test_members_are_trained_one_after_another(digits: data.Dataset):
    training = Training(BARRE, digits, None, torch.device("cpu"), Ranks())
    states = []
    for _ in range(4):
        training.epoch(lambda recent: None)
        states.append([{k: v.clone() for k, v in m.state_dict().items()} for m in training.ensemble.members])
    moved = [[not all(torch.equal(after[m][k], before[m][k]) for k in before[m]) for m in range(3)]
             for before, after in zip(states, states[1:], strict=False)]  # fmt: skip
    assert training.stages is not None
    assert [training.stages.member(e) for e in (1, 2, 3, 4)] == [0, 0, 1, 2]
    assert moved == [[True, False, False], [False, True, False], [False, False, True]]
    assert training.kept["epoch"] == 4  # an epoch of the last member
    assert [row["lr"] for row in training.history] == [pytest.approx(rate) for rate in (3e-3, 3e-4, 3e-3, 3e-3)]


def test_a_member_begins_with_the_weights_of_the_one_before(digits: data.Dataset):
    training = Training(replace(BARRE, lr=0.0, epochs=3), digits, None, torch.device("cpu"), Ranks())
    for _ in range(3):
        training.epoch(lambda recent: None)
    first, *others = [dict(m.named_parameters()) for m in training.ensemble.members]
    assert all(torch.equal(first[k], other[k]) for other in others for k in first)


def test_the_rest_of_a_killed_training_is_the_same(digits: data.Dataset, tmp_path: Path):
    whole = fit(BARRE, digits)
    first = Training(BARRE, digits, None, torch.device("cpu"), Ranks())
    first._saved = -10.0
    for _ in range(3):
        first.epoch(lambda recent: None)
    first.save(tmp_path / "progress")
    assert (tmp_path / "progress").is_file()
    rest = fit(BARRE, digits, progress=tmp_path / "progress")
    assert rest.ensemble.fingerprint() == whole.ensemble.fingerprint()
    assert rest.ensemble.chances == whole.ensemble.chances


def test_examples_are_made_against_the_members_so_far(digits: data.Dataset):
    ensemble = fit(replace(BARRE, epochs=3), digits).ensemble
    _, x, y = digits.split("train").batch(range(16))
    made, labels = barre(ensemble, x, y, eps=0.05, steps=4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(labels, y)
    assert (made - x).abs().max() <= 0.05 + 1e-6
    with torch.no_grad():
        right = [ensemble(z).gather(1, y[:, None]).mean() for z in (x, made)]
    assert right[1] < right[0]
    present = stages.Stages(3, 3).so_far(ensemble, 2)
    assert list(present.members) == list(ensemble.members)[:2]
    assert present.chances == (0.5, 0.5)


def test_the_rule_is_random_unless_another_is_asked_for(digits: data.Dataset):
    spec = Spec("defense", "barre", {})
    assert train_spec(spec, digits, {}).fusion == "random"
    assert train_spec(spec, digits, {"fusion": "mean-prob"}).fusion == "mean-prob"
    assert train_spec(Spec("defense", "adp", {}), digits, {}).fusion == "mean-prob"
    given = fit(replace(BARRE, epochs=3, fusion="random:0.5,0.25,0.25"), digits).ensemble
    assert given.chances == (0.5, 0.25, 0.25)


def test_what_is_cached_is_drawn_with_the_same_probabilities(
    digits: data.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from robustkit.base.progress import Reporter

    monkeypatch.setenv("ROBUSTKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(
        models_under_test, "load_ensemble",
        lambda path, *, arch=None, load=models_under_test.load_ensemble: load(path, arch="networks:normed"),
    )  # fmt: skip
    spec = replace(BARRE, epochs=3)
    record, ensemble = models_under_test.trained(spec, digits, torch.device("cpu"), Reporter())
    again, same = models_under_test.trained(spec, digits, torch.device("cpu"), Reporter())
    assert ensemble.chances == same.chances
    assert record.fusion == again.fusion == ensemble.fusion
    assert record.fusion.startswith("random:")


@pytest.mark.parametrize(
    ("name", "params", "members", "said"),
    [
        ("barre", {"eps": 0.0}, 3, "with eps 0 trains on no attack"), ("barre", {"images": 0}, 3, "with images 0"),
        ("igat", {}, 1, "compares members and needs at least 2"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(name: str, params: dict[str, float], members: int, said: str):
    with pytest.raises(UserError, match=said):
        defenses.check(name, params, members, 10)


def test_igat_begins_within_the_training():
    entry = defenses.defense.entry("igat+advt-pgd")
    assert options.coerce(entry, "igat.after", "1") == 1.0
    with pytest.raises(UserError, match=r"after 1.5 is out of range; it must be in \[0, 1\]"):
        options.coerce(entry, "igat.after", "1.5")


def test_fewer_epochs_than_members_and_losses_that_compare_are_refused(digits: data.Dataset):
    with pytest.raises(UserError, match="one after another, which 2 epochs are too few for; use --epochs 3"):
        check_training(replace(BARRE, epochs=2), digits)
    with pytest.raises(UserError, match="trains one member at a time"):
        defenses.defense.entry("adp+barre")
    assert defenses.defense.entry("igat+advt-pgd").facts["members"] == 2

"""Training: augmentation by hand, determinism, the epoch that is kept, and what happens when a loss breaks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from robustkit import data
from robustkit.base.errors import RunError
from robustkit.base.progress import Reporter
from robustkit.ensembles.ensemble import Ensemble
from robustkit.pipeline import models_under_test
from robustkit.records.cells import Spec
from robustkit.training import loop
from robustkit.training.augment import augment
from robustkit.training.loop import fit
from robustkit.training.spec import TrainSpec
from robustkit.training.untrained import accuracies, initialise

SPEC = TrainSpec(
    Spec("defense", "adp", {"alpha": 2.0, "beta": 0.5}), "digits", "sha", "small-resnet", members=2, epochs=2
)
SMALL = replace(SPEC, arch="networks:normed", speed="off")


def test_shifts_move_whole_images_and_repeat_the_edge():
    x = torch.arange(36.0).view(1, 1, 6, 6).repeat(300, 1, 1, 1)
    made = augment(x, shift=0.1, flip=False, generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(x[:1], (1, 1, 1, 1), mode="replicate")
    allowed = torch.stack([padded[0, 0, i : i + 6, j : j + 6] for i in range(3) for j in range(3)])
    which = (made[:, 0, None] == allowed).flatten(2).all(2)
    assert (which.sum(1) == 1).all()
    assert which.sum(0).min() > 15  # nine shifts, 33 each on average


def test_flips_half_of_the_images_and_none_unless_asked():
    x = torch.arange(4.0).view(1, 1, 1, 4).repeat(400, 1, 1, 1)
    flipped = augment(x, shift=0.0, flip=True, generator=torch.Generator().manual_seed(0))
    mirrored = (flipped == x.flip(3)).flatten(1).all(1)
    assert ((flipped == x).flatten(1).all(1) | mirrored).all()
    assert 150 < mirrored.sum() < 250
    assert torch.equal(augment(x, shift=0.0, flip=False, generator=torch.Generator()), x)


def test_members_start_different_and_a_member_does_not_depend_on_their_number(digits: data.Dataset):
    state = torch.random.get_rng_state()
    three, two = initialise(replace(SPEC, members=3), digits), initialise(SPEC, digits)
    assert torch.equal(torch.random.get_rng_state(), state)
    weights = [m.network.conv1.weight for m in three.members]
    assert not torch.equal(weights[0], weights[1])
    assert torch.equal(weights[1], two.members[1].network.conv1.weight)
    other = initialise(replace(SPEC, seed=1), digits)
    assert not torch.equal(other.members[0].network.conv1.weight, weights[0])


def test_same_seed_same_weights_and_history_tells_the_parts(digits: data.Dataset):
    first, second = fit(SMALL, digits), fit(SMALL, digits)
    assert first.ensemble.fingerprint() == second.ensemble.fingerprint()
    assert [set(row) for row in first.history] == [
        {"epoch", "loss", "ce", "entropy", "log_ed", "accuracy", "validation_accuracy", "lr", "seconds"}
    ] * 2
    last = first.history[-1]
    assert last["loss"] == pytest.approx(last["ce"] - 2 * last["entropy"] - 0.5 * last["log_ed"], rel=1e-4)
    assert first.history[1]["ce"] < first.history[0]["ce"]
    assert not first.ensemble.training
    assert fit(replace(SMALL, seed=1), digits).ensemble.fingerprint() != first.ensemble.fingerprint()


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("settles", [True, False])
def test_no_trained_weight_is_a_denormal_number(
    settles: bool, ema: float, digits: data.Dataset, monkeypatch: pytest.MonkeyPatch
):
    def begun(*given: Any) -> Ensemble:
        """Return an ensemble with a unit that no image reaches, whose weights have all but decayed."""
        ensemble = initialise(*given)
        with torch.no_grad():
            for member in ensemble.members:
                member.network.fc1.bias[0] = -1e4
                member.network.fc1.weight[0] = 1e-40
        return ensemble

    monkeypatch.setattr(loop, "initialise", begun)
    if not settles:
        monkeypatch.setattr(loop.optim, "settle", lambda *given: None)
    made = fit(replace(SPEC, arch="lenet", epochs=1, speed="off", ema=ema), digits).ensemble
    assert all(bool((m.network.fc1.weight[0] == 0).all()) is settles for m in made.members)


@pytest.mark.parametrize(("lr", "seed"), [(0.1, 0), (0.03, 2)])  # one keeps the second epoch of six, one the last
def test_latest_epoch_within_one_standard_error_is_kept(lr: float, seed: int, digits: data.Dataset):
    plain = replace(SMALL, defense=Spec("defense", "baseline", {}), schedule="constant")
    trained = fit(replace(plain, epochs=6, lr=lr, seed=seed), digits)  # rates at which the accuracy goes up and down
    scores = [row["validation_accuracy"] for row in trained.history]
    smoothed = (200 * max(scores) + 2) / 204
    limit = max(scores) - (smoothed * (1 - smoothed) / 200) ** 0.5
    kept = max(i for i, s in enumerate(scores) if s >= limit)
    assert trained.metrics["best_epoch"] == kept + 1
    assert trained.metrics["validation_accuracy"] == scores[kept]
    assert accuracies(trained.ensemble, digits.split("validation"))[0] == pytest.approx(scores[kept], abs=0.006)


def test_accuracy_counts_by_hand(trained: Ensemble, digits: data.Dataset):
    split = digits.split("test")
    _, x, y = split.batch(torch.arange(len(split)))
    with torch.no_grad():
        logits = trained.member_logits(x)
    fused, own = accuracies(trained, split, batch_size=77)
    assert fused == (logits.softmax(2).mean(0).argmax(1) == y).double().mean().item() >= 0.95
    assert own == pytest.approx([(z.argmax(1) == y).double().mean().item() for z in logits])


def test_a_loss_that_is_not_finite_is_said_clearly(digits: data.Dataset):
    with pytest.raises(RunError, match=r"training adp broke in epoch 1: the loss is not finite \(.*train.lr=1e\+29"):
        fit(replace(SMALL, lr=1e30), digits)


def test_mirroring_is_the_datasets_choice_or_the_users(digits: data.Dataset):
    plain = Spec("defense", "baseline", {})
    assert not models_under_test.train_spec(plain, digits, {}).flip
    assert models_under_test.train_spec(plain, replace(digits, flip=True), {}).flip
    assert models_under_test.train_spec(plain, digits, {"flip": True}).flip


@pytest.mark.parametrize(("right", "said"), [(20, True), (24, True), (60, False)])
def test_what_guessing_reaches_is_told_from_what_was_learned(right: int, said: bool, digits: data.Dataset):
    split = digits.split("validation")  # 200 images, of the most frequent class 21
    assert models_under_test.guesses(right / len(split), split) is said


def test_a_training_that_learned_nothing_says_so(
    digits: data.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("ROBUSTKIT_CACHE", str(tmp_path))
    reporter = Reporter(Console(width=200))
    models_under_test.trained(replace(SPEC, lr=100.0, epochs=1, speed="off"), digits, torch.device("cpu"), reporter)
    out = capsys.readouterr().out
    assert "1 epoch, on cpu" in out
    assert "warning: adp is no better than always one answer; try --set train.lr=10 or a weaker regulariser." in out

"""A training that is killed goes on where it was, bit by bit, and only with the options that it had."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from robustkit import data
from robustkit.base.errors import UserError
from robustkit.records.cells import Spec
from robustkit.training.loop import BETWEEN_SAVES, Diverged, Training, fit
from robustkit.training.ranks import Ranks
from robustkit.training.spec import TrainSpec

ADP = TrainSpec(
    Spec("defense", "adp", {"alpha": 2.0, "beta": 0.5}), "digits", "sha", "networks:normed", members=2, epochs=4
)


class Killed(BaseException):
    """Stands for a kill: nothing of ours catches it."""


@pytest.fixture(autouse=True)
def _save_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustkit.training.loop.BETWEEN_SAVES", 0.0)


def _killed_in_epoch(
    number: int, spec: TrainSpec, few_digits: data.Dataset, path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = Training.epoch

    def broken(self: Training, step) -> None:
        if len(self.history) + 1 == number:
            raise Killed
        whole(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "epoch", broken)
        with pytest.raises(Killed):
            fit(spec, few_digits, progress=path)


@pytest.mark.parametrize(
    "spec",
    [
        ADP,
        replace(ADP, optimiser="sgd", schedule="cosine", lr=0.05, ema=0.9, label_smoothing=0.1),
        replace(ADP, optimiser="adabelief", drops="1/2"),
        replace(ADP, defense=Spec("defense", "adp+advt-pgd", {"adp.alpha": 1.0, "advt-pgd.steps": 2}), epochs=3),
        replace(ADP, arch="robustkit.models.wide_resnet:WideResNet", epochs=3,
                arch_params={"depth": 10, "width": 1, "dropout": 0.3}),
    ],
    ids=["adp", "sgd-cosine-ema", "adabelief", "adversarial", "dropout"],
)  # fmt: skip
def test_killed_and_resumed_is_bitwise_the_unkilled(
    spec: TrainSpec, few_digits: data.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = fit(spec, few_digits)
    for killed_in in (2, 3):
        path = tmp_path / f"progress-{killed_in}"
        _killed_in_epoch(killed_in, spec, few_digits, path, monkeypatch)
        assert path.is_file()
        resumed = fit(spec, few_digits, progress=path)
        assert resumed.ensemble.fingerprint() == whole.ensemble.fingerprint()
        assert [{**row, "seconds": 0} for row in resumed.history] == [{**row, "seconds": 0} for row in whole.history]
        assert resumed.metrics["best_epoch"] == whole.metrics["best_epoch"]
        # Killed after the last epoch, before anybody has kept the result: nothing is trained again.
        with monkeypatch.context() as patch:
            patch.setattr(Training, "epoch", lambda self, step: pytest.fail("trained again"))
            assert fit(spec, few_digits, progress=path).ensemble.fingerprint() == whole.ensemble.fingerprint()


def test_short_epochs_are_saved_only_now_and_then(
    few_digits: data.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    clock = [100.0]
    monkeypatch.setattr("robustkit.training.loop.BETWEEN_SAVES", BETWEEN_SAVES)
    monkeypatch.setattr("robustkit.training.loop.time.perf_counter", lambda: clock[0])
    training, path = (
        Training(replace(ADP, speed="off"), few_digits, None, torch.device("cpu"), Ranks()),
        tmp_path / "new",
    )
    for seconds, saved in ((0.9 * BETWEEN_SAVES, False), (0.2 * BETWEEN_SAVES, True), (0.9 * BETWEEN_SAVES, False)):
        clock[0] += seconds
        training.save(path)
        assert path.is_file() is saved
        path.unlink(missing_ok=True)


def test_resume_does_not_repeat_what_is_done(few_digits: data.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "progress"
    _killed_in_epoch(4, ADP, few_digits, path, monkeypatch)
    done = []
    whole = Training.epoch
    monkeypatch.setattr(Training, "epoch", lambda self, step: (done.append(len(self.history)), whole(self, step)))
    fit(ADP, few_digits, progress=path)
    assert done == [3]


def test_other_hyperparameters_are_refused_and_named(
    few_digits: data.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "progress"
    _killed_in_epoch(3, ADP, few_digits, path, monkeypatch)
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"differs in lr: 0.5, there 0.001; give the same options .* or another --out"):
        fit(replace(ADP, lr=0.5), few_digits, progress=path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_a_damaged_file_begins_anew(
    content: bytes | None, few_digits: data.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "progress"
    spec = replace(ADP, epochs=2)
    _killed_in_epoch(2, spec, few_digits, path, monkeypatch)
    path.write_bytes(path.read_bytes()[:1000] if content is None else content)
    assert fit(spec, few_digits, progress=path).ensemble.fingerprint() == fit(spec, few_digits).ensemble.fingerprint()


def test_a_file_with_code_in_it_is_not_run(few_digits: data.Dataset, tmp_path: Path):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "exploded",)

    path = tmp_path / "progress"
    torch.save({"spec": Bomb()}, path)
    fit(replace(ADP, epochs=1), few_digits, progress=path)
    assert not (tmp_path / "exploded").exists()


def test_divergence_keeps_the_last_good_epoch(few_digits: data.Dataset, monkeypatch: pytest.MonkeyPatch):
    whole = Training.epoch

    def poisoned(self: Training, step) -> None:
        if len(self.history) == 2:
            with torch.no_grad():
                self.ensemble.members[0].network.linear.weight.fill_(float("nan"))
        whole(self, step)

    two = fit(replace(ADP, epochs=4), few_digits)
    monkeypatch.setattr(Training, "epoch", poisoned)
    with pytest.raises(Diverged, match="training adp broke in epoch 3") as caught:
        fit(ADP, few_digits)
    kept = caught.value.kept
    assert kept is not None
    assert len(kept.history) == 2
    assert [row["loss"] for row in kept.history] == [row["loss"] for row in two.history[:2]]
    assert all(bool(torch.isfinite(v).all()) for v in kept.ensemble.state_dict().values())

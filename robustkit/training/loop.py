"""One training loop for every defence: one scalar loss, best epoch on validation, resumed where it was killed."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import math
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from robustkit import defenses
from robustkit.base.devices import machine
from robustkit.base.errors import RunError, UserError
from robustkit.base.files import write_atomic
from robustkit.base.parallel import GLOBAL_RNG
from robustkit.base.progress import Reporter
from robustkit.data import Dataset
from robustkit.ensembles.ensemble import Ensemble
from robustkit.functional.stats import standard_error
from robustkit.training import forward, optim
from robustkit.training.beforehand import check_training
from robustkit.training.ranks import Ranks
from robustkit.training.samples import Samples
from robustkit.training.spec import TrainSpec
from robustkit.training.stages import Stages, with_chances
from robustkit.training.step import EpochRunner
from robustkit.training.untrained import accuracies, companion_of, initialise, outlier_samples

BETWEEN_SAVES = 2.0  # seconds: epochs shorter than this are not worth a file each
Row = dict[str, float]


@dataclass(frozen=True)
class Trained:
    """A trained ensemble in eval mode, its metrics, and one row of facts per epoch."""

    ensemble: Ensemble
    metrics: dict[str, Any]
    history: list[Row]


class Diverged(RunError):
    """The loss is not finite; ``kept`` is the best epoch before that, if there was one."""

    def __init__(self, message: str, kept: Trained | None) -> None:
        super().__init__(message)
        self.kept = kept


def remedy(spec: TrainSpec) -> str:
    """Return what to try where a training diverged or learned nothing."""
    return f"try --set train.lr={spec.lr / 10:g} or a weaker regulariser"


def fit(
    spec: TrainSpec, data: Dataset, *, device: torch.device | None = None, reporter: Reporter | None = None,
    outliers: Dataset | None = None, progress: Path | None = None, ranks: Ranks | None = None, way: str = "",
) -> Trained:  # fmt: skip
    """Train an ensemble and return its best epoch by fused validation accuracy.

    Best is the latest epoch within one standard error of the highest accuracy seen: a difference that the validation
    data cannot tell from chance must not undo epochs of a regulariser's work (Breiman et al. 1984, the 1 SE rule).

    Parameters
    ----------
    outliers : Dataset or None
        For a defence that trains on outliers; its training images are used.
    progress : path or None
        A file that is written after an epoch and read at the start, so that a killed training goes on where it was;
        on a CPU with the same weights at the end, bit by bit. It stays: who has kept the result removes it.
    ranks : Ranks or None
        The processes that share each batch.
    way : str
        How steps are computed (:mod:`robustkit.training.forward`), as another process has chosen it; empty: by a trial.

    Raises
    ------
    UserError
        If the defence does not fit the members, classes, architecture or outliers, or ``progress`` is of another
        training.
    Diverged
        If the loss is not finite; the message says when and what to change.
    """
    device = device or torch.device("cpu")
    reporter = reporter or Reporter()
    with reporter.alive(f"preparing the training of {spec.defense.name}"):
        training = Training(spec, data, outliers, device, ranks or Ranks(), way)
        training.resume(progress)
    if training.history:
        reporter.say(f"  going on after epoch {len(training.history)} of {spec.epochs}, from {progress}")
    with reporter.task(f"training {spec.defense.name}", spec.epochs * training.work.steps) as advance:
        advance(len(training.history) * training.work.steps)
        while len(training.history) < spec.epochs:

            def step(recent: Row, prefix: str = training.headline()) -> None:
                advance(1, prefix + ", ".join(f"{name} {value:.3f}" for name, value in recent.items()))

            with _dropout_of_its_own(training.ensemble, spec.seed, len(training.history)):
                training.epoch(step)
            training.save(progress)
    with reporter.alive(f"finishing the training of {spec.defense.name}"):
        return training.finished()


def way_of(spec: TrainSpec, data: Dataset, device: torch.device, threads: int) -> str:
    """Return how a training on so many of torch's threads would compute its steps, by the trial that it would make."""
    features = "features" in defenses.method(spec.defense.name, spec.defense.params).facts.get("needs", ())
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _chosen(spec, initialise(spec, data).to(device), Samples.of(data.split("train"), device), features)
    finally:
        torch.set_num_threads(before)


def _chosen(spec: TrainSpec, ensemble: Ensemble, samples: Samples, features: bool) -> str:
    first = torch.arange(min(spec.batch_size, len(samples.y)), device=samples.y.device)
    steps = spec.epochs * math.ceil(len(samples.y) / len(first))
    x, y = samples.images(first), samples.y[first]
    return forward.choose(ensemble, x, y, steps, spec.speed, plain_calls=features)


class Training:
    """A training in progress: what :func:`fit` moves on epoch by epoch, saves and takes up again."""

    def __init__(
        self, spec: TrainSpec, data: Dataset, outliers: Dataset | None, device: torch.device, ranks: Ranks,
        way: str = "",
    ) -> None:  # fmt: skip
        check_training(spec, data, outliers)
        method = defenses.method(spec.defense.name, spec.defense.params)
        needs = method.facts.get("needs", ())
        self.spec, self.validation = spec, data.split("validation")
        self.method, self.stages = method, Stages.of(spec, method)
        self.ensemble = initialise(spec, data).to(device)
        samples = Samples.of(data.split("train"), device)
        self.features = "features" in needs
        self.way = way or ranks.decided(_chosen(spec, self.ensemble, samples, self.features))
        companion = companion_of(method, self.ensemble, spec, len(data.classes))
        if companion is not None:
            companion.to(device)  # before the optimiser is told of its parameters, which need not stay the same objects
        trained = [*self.ensemble.parameters(), *(companion.parameters() if companion else ())]
        self.optimiser = optim.optimiser(spec, trained)
        self.average = optim.averaged(self.ensemble, spec.ema) if spec.ema else None
        self.work = EpochRunner(
            spec, method, self.ensemble, forward.Forward(self.ensemble, self.way, self.features), self.optimiser,
            samples,
            outlier_samples(outliers, data, device) if "outliers" in needs else None,
            companion, ranks, self._average, self.stages,
        )  # fmt: skip
        staged = self.stages.schedule if self.stages else optim.schedule
        self.schedule = staged(spec, self.optimiser)
        self.history: list[Row] = []
        self.best_accuracy, self.kept = 0.0, Row()
        self.best: dict[str, Tensor] | None = None
        self._saved = time.perf_counter()

    def _average(self) -> None:
        if self.average is not None:
            self.average.update_parameters(self.ensemble)

    def headline(self) -> str:
        """Return what the progress line says of the epoch that begins."""
        before = f"validation {self.history[-1]['validation_accuracy']:.3f}, " if self.history else ""
        return f"epoch {len(self.history) + 1} of {self.spec.epochs}, {before}"

    def epoch(self, step: Callable[[Row], None]) -> None:
        """Train one epoch, score it on validation data, and keep it if it is the best so far."""
        number, started = len(self.history) + 1, time.perf_counter()
        rate = self.optimiser.param_groups[0]["lr"]
        try:
            means = self.work.epoch(number, step)
        except FloatingPointError as error:
            raise Diverged(self._advice(number, str(error)), self.result() if self.best else None) from None
        self.schedule.step()
        optim.settle(self.optimiser, self.average)
        whole = self.ensemble if self.average is None else cast(Ensemble, self.average.module)
        scored = whole if self.stages is None else self.stages.so_far(whole, number)
        accuracy = accuracies(scored, self.validation)[0]
        facts = {"validation_accuracy": accuracy, "lr": float(rate), "seconds": time.perf_counter() - started}
        self.history.append({"epoch": float(number), **means, **facts})
        if len(scored) < len(whole) or not self.work.whole:
            return  # some members are untrained, or trained without a term of the loss
        self.best_accuracy = max(self.best_accuracy, accuracy)
        if accuracy >= self.best_accuracy - standard_error(self.best_accuracy, len(self.validation)):
            self.kept, self.best = self.history[-1], copy.deepcopy(whole.state_dict())

    def _advice(self, number: int, what: str) -> str:
        return (
            f"training {self.spec.defense.name} broke in epoch {number}: the loss is not finite ({what}); "
            f"{remedy(self.spec)}."
        )

    def result(self) -> Trained:
        """Return the best epoch so far as an ensemble of its own."""
        ensemble = copy.deepcopy(self.ensemble)
        if self.best is not None:
            ensemble.load_state_dict(self.best)
        ensemble.eval()
        ensemble.to(memory_format=torch.contiguous_format)
        metrics = {
            "validation_accuracy": self.kept.get("validation_accuracy", 0.0),
            "best_epoch": self.kept.get("epoch", 0.0),
            "seconds": sum(row["seconds"] for row in self.history),
            "way": self.way,
            "device": machine(next(self.ensemble.parameters()).device),
        }
        return Trained(ensemble, metrics, list(self.history))

    def finished(self) -> Trained:
        """Return the best epoch with the probabilities of its members, where the defence finds them."""
        made = self.result()
        return replace(made, ensemble=with_chances(made.ensemble, self.spec, self.method, self.work.samples))

    def save(self, path: Path | None) -> None:
        """Write everything that the next epoch depends on; after short epochs only now and then."""
        now = time.perf_counter()
        if path is None or not self.work.ranks.leads or now - self._saved < BETWEEN_SAVES:
            return
        state = {
            "spec": json.dumps(self.spec.to_json()),
            "way": self.way,
            "history": self.history,
            "kept": self.kept,
            "best_accuracy": self.best_accuracy,
            "best": self.best,
            **{name: part.state_dict() for name, part in self._parts().items()},
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomic(path, lambda stream: stream.write(buffer.getbuffer()))
        self._saved = now

    def resume(self, path: Path | None) -> None:
        """Take up what :meth:`save` wrote, if there is something."""
        if path is None or not path.is_file():
            return
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            there = json.loads(state["spec"])
        except (OSError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError):
            return  # a damaged file: begin anew
        if differing := self.spec.differences(there):
            # Cause: the --out folder holds the progress of another training.
            raise UserError(
                f"'{path}' is a training that was interrupted and differs in {'; '.join(differing)}; give the same "
                "options to go on with it, or another --out, or delete it."
            )
        if state["way"] != self.way:  # the trial's memory is gone: go on as it began, so that the numbers are the same
            self.way = state["way"]
            self.work.forward = forward.Forward(self.ensemble, self.way, self.features)
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.history, self.kept = state["history"], state["kept"]
        self.best_accuracy, self.best = state["best_accuracy"], state["best"]

    def _parts(self) -> dict[str, Any]:
        parts = {"weights": self.ensemble, "optimiser": self.optimiser, "schedule": self.schedule}
        parts |= {"average": self.average} if self.average is not None else {}
        return parts | ({"companion": self.work.companion} if self.work.companion is not None else {})


@contextlib.contextmanager
def _dropout_of_its_own(ensemble: Ensemble, seed: int, epoch: int) -> Iterator[None]:
    """Let dropout draw from a stream that depends on seed and epoch alone; it reads torch's global generator."""
    if not any(isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0 for m in ensemble.modules()):
        yield
        return
    devices = {p.device for p in ensemble.parameters() if p.device.type == "cuda"}  # of others nothing is drawn
    with GLOBAL_RNG, torch.random.fork_rng(devices=list(devices)):
        torch.manual_seed(seed * 1_000_003 + epoch)
        yield

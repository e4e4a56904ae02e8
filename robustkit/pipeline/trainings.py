"""Several trainings side by side: in threads of this process, or as pieces of work on an executor elsewhere."""

from __future__ import annotations

import itertools
import queue
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from robustkit.base.errors import RunError
from robustkit.base.lines import spoken
from robustkit.base.parallel import run_all
from robustkit.base.progress import Reporter
from robustkit.data import Dataset
from robustkit.evaluation.cell import RunOptions
from robustkit.evaluation.executors import Done, Executor, Piece
from robustkit.evaluation.executors._worker import Worker
from robustkit.pipeline import models_under_test
from robustkit.pipeline.models_under_test import ModelUnderTest, described, outliers_of, train_spec
from robustkit.records.cells import Spec
from robustkit.study.evaluation_data import EvaluationData
from robustkit.training.beforehand import check_training
from robustkit.training.loop import Diverged, Row, Trained, fit, way_of
from robustkit.training.ranks import Ranks
from robustkit.training.spec import TrainSpec
from robustkit.training.untrained import initialise

Job = tuple[TrainSpec, Dataset | None]  # a recipe with its outliers


def trained_all(
    trainings: Sequence[tuple[Spec, int]], data: EvaluationData, asked: Mapping[str, Any], run_options: RunOptions,
    reporter: Reporter,
) -> list[ModelUnderTest]:  # fmt: skip
    """Train defences, each with a seed, on the data's training split side by side, or take them from the cache.

    A :class:`UserError` says what does not fit one of them before any is trained.
    """
    return trained_jobs(training_jobs(trainings, data, asked, run_options.speed), data.dataset, run_options, reporter)


def training_jobs(
    trainings: Sequence[tuple[Spec, int]], data: EvaluationData, asked: Mapping[str, Any], speed: str
) -> list[Job]:
    """Return the recipe of each training with its outliers; a :class:`UserError` says what does not fit one of them."""
    jobs = []
    for one, seed in trainings:
        outliers = outliers_of(one, data.load)
        spec = train_spec(one, data.dataset, asked, outliers=outliers, speed=speed, seed=seed)
        check_training(spec, data.dataset, outliers)
        jobs.append((spec, outliers))
    return jobs


def trained_jobs(
    jobs: Sequence[Job], loaded: Dataset, run_options: RunOptions, reporter: Reporter
) -> list[ModelUnderTest]:
    """Run trainings side by side, or take them from the cache; this process alone writes there.

    Raises
    ------
    RunError
        If one diverges; elsewhere, once all others are done, if the worker of one died in every try.
    """
    executor = run_options.executor
    if executor is not None and executor.remote:
        _Elsewhere(executor, loaded, run_options, reporter).run(jobs)
    devices = run_options.devices or (run_options.device,)
    free: queue.SimpleQueue[torch.device] = queue.SimpleQueue()
    for _, device in zip(range(max(run_options.workers, len(devices))), itertools.cycle(devices), strict=False):
        free.put(device)

    def one(job: Job) -> ModelUnderTest:
        device = free.get()
        try:
            return models_under_test.trained(job[0], loaded, device, reporter, outliers=job[1])
        finally:
            free.put(device)

    return run_all(one, jobs, run_options.workers)


@dataclass(frozen=True)
class Fitted:
    """What a training gives, as it travels; ``broke`` says how it diverged, and the rest is then its best epoch."""

    state: Mapping[str, Tensor] | None
    metrics: Mapping[str, Any]
    history: Sequence[Row]
    broke: str = ""
    fusion: str = ""  # where the training found it


def train(worker: Worker, spec: TrainSpec, data: str, way: str, outliers: str = "") -> Fitted:
    """Train an ensemble on a shared dataset; ``way`` empty: the worker chooses how a step is computed."""
    others = worker.get(outliers) if outliers else None
    try:
        made = fit(spec, worker.get(data), device=worker.device, outliers=others, way=way)
    except Diverged as error:
        if error.kept is None:
            return Fitted(None, {}, [], str(error))
        return _fitted(error.kept, str(error))
    return _fitted(made)


def _fitted(made: Trained, broke: str = "") -> Fitted:
    ensemble = made.ensemble.cpu()
    return Fitted(ensemble.state_dict(), made.metrics, made.history, broke, ensemble.fusion)


class _Elsewhere:
    """Trainings as pieces of work whose ensembles come back and are put into the cache here."""

    def __init__(self, executor: Executor, loaded: Dataset, run_options: RunOptions, reporter: Reporter) -> None:
        self._executor, self._loaded, self._reporter = executor, loaded, reporter
        self._options, self._failed = run_options, list[str]()

    def run(self, jobs: Sequence[Job]) -> None:
        """Train what the cache lacks; a :class:`RunError` at the end says what failed."""
        left = {spec.key: (spec, others) for spec, others in jobs if models_under_test.cached(spec) is None}
        if not left:
            return
        with (
            self._reporter.pieces("training", len(left)) as done,
            self._executor.session(len(left), self._reporter) as session,
        ):
            for job in left.values():
                session.submit(self._piece(*job))
            for ended in session.finished():
                self._finish(ended)
                done(f"training {ended.piece.label}, {spoken(ended.seconds)}")
        if self._failed:
            raise RunError(" ".join(self._failed))

    def _piece(self, spec: TrainSpec, outliers: Dataset | None) -> Piece:
        names = {"data": self._share(self._loaded), **({"outliers": self._share(outliers)} if outliers else {})}
        way = way_of(spec, self._loaded, self._options.device, self._executor.threads) if self._same() else ""
        cost = float(spec.epochs * spec.members)
        return Piece(train, {"spec": spec, "way": way, **names}, tuple(names.values()), cost, described(spec), tag=spec)

    def _same(self) -> bool:
        """Return whether workers compute on a device like this process's, so that a trial here is one for there."""
        return self._executor.device.type == self._options.device.type

    def _share(self, dataset: Dataset) -> str:
        name = f"data {dataset.name} {dataset.split('train').sha256()}"
        self._executor.share(name, dataset)
        return name

    def _finish(self, done: Done) -> None:
        """Put what came back into the cache."""
        spec: TrainSpec = done.piece.tag
        if done.lost:
            self._failed.append(f"training {done.piece.label} failed: {done.lost}; the same command tries it again.")
            return
        fitted: Fitted = done.value
        made = None
        if fitted.state is not None:
            ensemble = initialise(replace(spec, fusion=fitted.fusion or spec.fusion), self._loaded)
            ensemble.load_state_dict(fitted.state)
            made = Trained(ensemble.eval(), dict(fitted.metrics), list(fitted.history))
        if fitted.broke or made is None:
            error = models_under_test.with_last_good(Diverged(fitted.broke, made), spec, self._loaded, Ranks())
            self._failed.append(str(error))
            return
        folder = models_under_test.folder_of(spec)
        models_under_test.save(made.ensemble, folder, spec, self._loaded, made.metrics, made.history)
        folder.with_name(f"{spec.key}.progress").unlink(missing_ok=True)
        models_under_test.say_trained(spec, self._loaded, made.metrics, done.seconds, self._reporter)

"""Training through the public interface: one seed or several, planned or done."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from robustkit import data
from robustkit.api._data import loaded as loaded_data
from robustkit.api._data import loader, with_data
from robustkit.base import paths
from robustkit.base.configuration import takes
from robustkit.base.devices import find_device
from robustkit.base.files import check_folder, writable
from robustkit.base.options import seeds
from robustkit.base.progress import Reporter
from robustkit.ensembles.checkpoint import META, WEIGHTS, read_meta
from robustkit.evaluation import executors
from robustkit.evaluation.cell import RunOptions
from robustkit.pipeline import models_under_test, resolved
from robustkit.pipeline.estimate import training_seconds
from robustkit.pipeline.plan_of import Plan, Planned, together
from robustkit.pipeline.request import TrainingRequest, check_training
from robustkit.pipeline.trainings import trained_jobs
from robustkit.reports._history import write_history
from robustkit.study.config import TrainConfig
from robustkit.training.beforehand import check_training as check_fits
from robustkit.training.ranks import joined, own_device
from robustkit.training.spec import TrainSpec
from robustkit.training.untrained import accuracies

PROGRESS = "training.progress"  # in the --out of a training: where it is, until it is done
TRAINED = (META, WEIGHTS, PROGRESS)  # what tells that a folder is that of a training


@takes(TrainConfig)
def train(config: TrainConfig) -> dict[str, Any]:
    """Train an ensemble and write it to a folder that :func:`load_ensemble` and ``--checkpoint`` read.

    An equal training in the cache is reused; one that was killed goes on from ``out``. Beside the checkpoint come
    history.csv and history.png: a row, a point per epoch. Under ``torchrun`` the processes share each batch; all of
    them call this with the same arguments. With an executor, all seeds are trained side by side there; a training that
    is killed there begins anew.

    Returns
    -------
    dict
        The metrics: validation and test accuracy, fused and per member, best epoch, seconds. With several seeds
        ``seeds`` holds those of each, ``test_accuracy`` and ``test_accuracy_std`` are over seeds (ddof=1), and the
        checkpoints lie in ``out/DEFENSE-seedN``.

    Raises
    ------
    UserError
        On bad input, before any work is done.
    RunError
        If the training diverges; its best epoch is kept.
    """
    config = with_data(config)
    request = check_training(config)
    if config.seeds is not None:
        return _train_each(config, request.defense.name, seeds(config.seeds))
    reporter = config.reporter or Reporter()
    on = own_device(find_device(config.device))
    loaded, outliers = loaded_data(config), models_under_test.outliers_of(request.defense, loader(config))
    check_folder(Path(config.out), "--out", TRAINED, config.force)
    if reporter.planned is not None or (reporter.console is not None and "WORLD_SIZE" not in os.environ):
        _plan_training(config, request, loaded, outliers, on, reporter)
    folder = writable(Path(config.out), "--out")
    _train_elsewhere(config, request, (config.seed,), loaded, outliers)
    with joined(on) as ranks:
        spec = _spec(config, request, loaded, outliers, config.seed, ranks.world)
        heard = reporter if ranks.leads else Reporter()
        _, ensemble = models_under_test.trained(
            spec, loaded, on, heard, outliers=outliers, progress=folder / PROGRESS, ranks=ranks
        )
        meta = read_meta(paths.cache_dir() / "ensembles" / spec.key)
        test, own = accuracies(ensemble.to(on), loaded.split("test"))
        metrics = {**meta["metrics"], "test_accuracy": test, "test_member_accuracy": own}
        if ranks.leads:
            models_under_test.save(ensemble, folder, spec, loaded, metrics, meta["history"])
            write_history(meta["history"], folder, f"{spec.defense.name} on {spec.dataset}")
            resolved.write(folder, "train", config, [request.defense])
    return metrics


def _spec(
    config: TrainConfig, request: TrainingRequest, loaded: data.Dataset, outliers: data.Dataset | None, seed: int,
    processes: int = 1,
) -> TrainSpec:  # fmt: skip
    """Return the whole recipe of a training with one seed."""
    return models_under_test.train_spec(
        request.defense, loaded, request.fields, paper=request.recipe, outliers=outliers, speed=config.speed, seed=seed,
        processes=processes,
    )  # fmt: skip


def _plan_training(
    config: TrainConfig, request: TrainingRequest, loaded: data.Dataset, outliers: data.Dataset | None,
    on: torch.device, reporter: Reporter,
) -> None:  # fmt: skip
    """Say how long a training takes, or give the plan to who asked for it."""
    spec = _spec(config, request, loaded, outliers, config.seed)
    kept = models_under_test.cached(spec) is not None
    if kept and reporter.planned is None:
        return
    check_fits(spec, loaded, outliers)
    seconds = 0.0 if kept else training_seconds([(spec, outliers)], loaded, RunOptions(on))
    plan = Plan(
        f"{spec.defense.name}: {spec.members} x {spec.arch} on {spec.dataset}, {spec.epochs} epochs", trainings=1,
        cached=int(kept), seconds={"training": seconds},
    )  # fmt: skip
    if reporter.planned is not None:
        reporter.planned(plan)
    reporter.say(f"[dim]{plan.sentence()}[/dim]")


def _train_elsewhere(
    config: TrainConfig, request: TrainingRequest, wanted: Sequence[int], loaded: data.Dataset,
    outliers: data.Dataset | None,
) -> None:  # fmt: skip
    """Let the executor train with each of the seeds what the cache lacks; what follows finds it there."""
    on = find_device(config.device)
    executor = executors.chosen(config, on)
    if executor is None:
        return
    specs = [_spec(config, request, loaded, outliers, seed) for seed in wanted]
    left = [spec for spec in specs if models_under_test.cached(spec) is None]
    if not left:
        return
    for spec in left:
        check_fits(spec, loaded, outliers)
    reporter = config.reporter or Reporter()
    with executors.opened(executor, reporter):
        run_options = RunOptions(on, speed=config.speed, executor=executor)
        trained_jobs([(spec, outliers) for spec in left], loaded, run_options, reporter)


def _train_each(config: TrainConfig, name: str, wanted: tuple[int, ...]) -> dict[str, Any]:
    """Train once with each seed, each in a folder of its own; return the metrics of each, and over seeds."""
    by_seed: dict[str, dict[str, Any]] = {}
    if config.reporter is not None and config.reporter.planned is not None:
        return _plan_each(config, wanted)
    runs = {
        seed: replace(config, seeds=None, seed=seed, out=Path(config.out) / f"{name}-seed{seed}") for seed in wanted
    }
    if config.executor != executors.LOCAL:
        for one in runs.values():
            check_folder(Path(one.out), "--out", TRAINED, config.force)
        request = check_training(config)
        outliers = models_under_test.outliers_of(request.defense, loader(config))
        _train_elsewhere(config, request, wanted, loaded_data(config), outliers)
    for seed, one in runs.items():
        by_seed[str(seed)] = train(**one.keywords())
    accuracies = [metrics["test_accuracy"] for metrics in by_seed.values()]
    spread = statistics.stdev(accuracies) if len(accuracies) > 1 else None
    return {"seeds": by_seed, "test_accuracy": statistics.fmean(accuracies), "test_accuracy_std": spread}


def _plan_each(config: TrainConfig, wanted: tuple[int, ...]) -> dict[str, Any]:
    """Give the plan of all trainings to who asked for it: as many as there are seeds, one after the other."""
    reporter = config.reporter or Reporter()
    plans = []
    for seed in wanted:
        one = replace(config, seeds=None, seed=seed)
        try:
            train(**one.keywords())
        except Planned as found:
            plans.append(found.plan)
    whole = together(plans)
    if reporter.planned is not None:
        reporter.planned(replace(whole, what=f"{plans[0].what}, {len(plans)} seeds"))
    return {}

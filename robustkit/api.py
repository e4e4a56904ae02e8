"""The public functions: train, evaluate, audit, self_test, report, check, compare, load_runs.

The command line adds nothing to them. Their keywords are the fields of :mod:`robustkit.study.config`, with their
types, defaults and descriptions.
"""

from __future__ import annotations

import functools
import os
import statistics
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from robustkit import data, models, reports
from robustkit.auditing import running
from robustkit.base import paths
from robustkit.base.configuration import takes
from robustkit.base.devices import find_device
from robustkit.base.errors import UserError
from robustkit.base.files import writable, write_json
from robustkit.base.names import SUITES
from robustkit.base.options import names, seeds
from robustkit.base.parallel import default_workers
from robustkit.base.progress import Reporter
from robustkit.comparison.page import compare as compare
from robustkit.ensembles.checkpoint import read_meta
from robustkit.evaluation.cell import RunOptions
from robustkit.gates import running as gates
from robustkit.gates.running import check as check
from robustkit.pipeline import evaluate as pipeline
from robustkit.pipeline import models_under_test, resolved, selftest
from robustkit.pipeline.estimate import training_seconds
from robustkit.pipeline.plan_of import Plan, Planned, together
from robustkit.pipeline.request import TrainingRequest, check_training, defended
from robustkit.pipeline.request import check as check_request
from robustkit.pipeline.results import build
from robustkit.pipeline.stored import read_study
from robustkit.records.schema import Results
from robustkit.records.store import Store, open_runs
from robustkit.reports._history import write_history
from robustkit.study.config import AuditConfig, EvaluateConfig, ReportConfig, SelfTestConfig, TrainConfig
from robustkit.study.options_run import Data
from robustkit.training.beforehand import check_training as check_fits
from robustkit.training.ranks import joined, own_device
from robustkit.training.untrained import accuracies

PROGRESS = "training.progress"  # in the --out of a training: where it is, until it is done
C = TypeVar("C", bound=Data)


@takes(EvaluateConfig)
def evaluate(config: EvaluateConfig) -> Results:
    """Attack ensembles white-box and member to member, and write results, tables, figures and a report.

    Returns
    -------
    Results
        What ``results.json`` holds.

    Raises
    ------
    UserError
        On bad input, before any work is done.
    RunError
        If something fails while running; the store keeps what finished.
    GateError
        If what ``minimum``, ``require`` or ``against_baseline`` ask for does not hold; results and report are written.
    """
    formats = _formats(config.formats)
    gates.prepare(config)
    folder = pipeline.evaluate(_with_data(config))
    asked = check_request(config)
    resolved.write(folder, "evaluate", config, (*asked.attacks, *asked.defenses))
    results = report(folder, formats=formats)
    gates.enforce(config, config.out)
    return results


@takes(AuditConfig)
def audit(config: AuditConfig) -> Results:
    """Evaluate models that somebody else made, and report what was detected, assumed and not tested.

    A model is a file, a folder of files, a ``torch.nn.Module``, or a callable from images (B, C, H, W) in [0, 1] to
    logits (B, L). No code in a file is run unless ``trust_pickle`` says so (:mod:`robustkit.auditing.reading`).

    Returns
    -------
    Results
        What ``results.json`` holds; ``report.html`` lies beside it in ``out``.

    Raises
    ------
    UserError
        On a file, an architecture or data that cannot be used, before anything is evaluated.
    RunError
        If something fails while running; the store keeps what finished.
    GateError
        If what ``minimum``, ``require`` or ``against_baseline`` ask for does not hold; results and report are written.
    """
    formats = _formats(config.formats)
    gates.prepare(config)
    folder = running.audit(_with_data(config))
    resolved.write(folder, "audit", config, check_request(config, SUITES).attacks)
    results = report(folder, formats=formats)
    gates.enforce(config, config.out)
    return results


def _formats(formats: str | Iterable[str]) -> tuple[str, ...]:
    """Return the named formats, none of an empty list; a UserError suggests the nearest of an unknown one."""
    listed = tuple(formats) if not isinstance(formats, str) else (formats,)
    return names(formats, reports.report) if listed else ()


def _with_data(config: C) -> C:
    """Return the configuration with data in memory made a dataset."""
    if isinstance(config.dataset, str):
        return config
    if config.image_size is not None:
        raise UserError(f"image size {config.image_size} cannot be set for data in memory; leave image_size out.")
    return replace(config, dataset=data.in_memory(config.dataset))


def _loader(config: Data) -> Callable[[str], data.Dataset]:
    return functools.partial(
        data.load, data_dir=config.data_dir, download=config.download, image_size=config.image_size
    )


def _loaded(config: Data) -> data.Dataset:
    return _loader(config)(config.dataset) if isinstance(config.dataset, str) else config.dataset


@takes(TrainConfig)
def train(config: TrainConfig) -> dict[str, Any]:
    """Train an ensemble and write it to a folder that :func:`load_ensemble` and ``--checkpoint`` read.

    An equal training in the cache is reused; one that was killed goes on from ``out``. Beside the checkpoint come
    history.csv and history.png: a row, a point per epoch. Under ``torchrun`` the processes share each batch; all of
    them call this with the same arguments.

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
    config = _with_data(config)
    request = check_training(config)
    if config.seeds is not None:
        return _train_each(config, request.defense.name, seeds(config.seeds))
    reporter = config.reporter or Reporter()
    on = own_device(find_device(config.device))
    loaded, outliers = _loaded(config), models_under_test.outliers_of(request.defense, _loader(config))
    if reporter.planned is not None or (reporter.console is not None and "WORLD_SIZE" not in os.environ):
        _plan_training(config, request, loaded, outliers, on, reporter)
    folder = writable(Path(config.out), "--out")
    with joined(on) as ranks:
        spec = models_under_test.train_spec(
            request.defense, loaded, request.fields, paper=request.recipe, outliers=outliers, speed=config.speed,
            seed=config.seed, processes=ranks.world,
        )  # fmt: skip
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


def _plan_training(
    config: TrainConfig, request: TrainingRequest, loaded: data.Dataset, outliers: data.Dataset | None,
    on: torch.device, reporter: Reporter,
) -> None:  # fmt: skip
    """Say how long a training takes, or give the plan to who asked for it."""
    spec = models_under_test.train_spec(
        request.defense, loaded, request.fields, paper=request.recipe, outliers=outliers, speed=config.speed,
        seed=config.seed,
    )  # fmt: skip
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


def _train_each(config: TrainConfig, name: str, wanted: tuple[int, ...]) -> dict[str, Any]:
    """Train once with each seed, each in a folder of its own; return the metrics of each, and over seeds."""
    by_seed: dict[str, dict[str, Any]] = {}
    if config.reporter is not None and config.reporter.planned is not None:
        return _plan_each(config, wanted)
    for seed in wanted:
        one = replace(config, seeds=None, seed=seed, out=Path(config.out) / f"{name}-seed{seed}")
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


@takes(SelfTestConfig)
def self_test(config: SelfTestConfig) -> list[selftest.Outcome]:
    """Evaluate planted faults and two sound ensembles, and say of each whether the verdict was right.

    A plain and a PGD-adversarially trained ensemble are trained, or taken from the cache; the faults are planted in the
    plain one. Writes ``self-test.json`` to ``out``.
    """
    models.check(config.arch)
    reporter, on = config.reporter or Reporter(), find_device(config.device)
    loaded = _loaded(_with_data(config))
    folder = writable(Path(config.out), "--out")
    ensembles = {}
    for name in ("baseline", "advt-pgd"):
        fields = {"arch": config.arch, "epochs": config.epochs}
        spec = models_under_test.train_spec(defended(name, {}), loaded, fields, speed="off", seed=config.seed)
        ensembles[name] = models_under_test.trained(spec, loaded, on, reporter)[1].to(on)
    run_options = RunOptions(on, keep_examples=False, workers=config.workers or default_workers(on))
    plain = ensembles.pop("baseline")
    outcomes = selftest.run(plain, loaded, run_options, reporter, sound=ensembles, n=config.n, seed=config.seed)
    write_json(folder / "self-test.json", [outcome.to_json() for outcome in outcomes])
    return outcomes


@takes(ReportConfig)
def report(config: ReportConfig) -> Results:
    """Render results.json and the named formats again from the store of an evaluation; no attack is run.

    Returns
    -------
    Results
        What ``results.json`` holds.

    Raises
    ------
    UserError
        If there is no such evaluation.
    RunError
        If it is not done; the command that began it resumes it.
    """
    chosen = list(dict.fromkeys([*_formats(config.formats), "json"]))
    store = open_runs(config.path)
    study = read_study(store)
    results = build(study, store)
    folder = writable(Path(config.out) if config.out else store.folder.parent, "--out")
    if {"figures", "html"} & set(chosen):
        from robustkit.reports import _suites

        _suites.write_sheets(study, store, folder)
    reports.write(results, folder, chosen)
    return results


def load_runs(path: str | Path) -> Store:
    """Return the stored runs of an evaluation: iterate over it, or ``load(cell, examples=True)`` for the images."""
    return open_runs(path)

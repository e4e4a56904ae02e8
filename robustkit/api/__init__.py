"""The public functions: train, search, evaluate, audit, self_test, report, check, compare, load_runs.

The command line adds nothing to them. Their keywords are the fields of :mod:`robustkit.study.config`, with their
types, defaults and descriptions.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from robustkit import models, reports
from robustkit.api._data import loaded as loaded_data
from robustkit.api._data import with_data
from robustkit.api._training import train as train
from robustkit.auditing import running
from robustkit.base.configuration import takes
from robustkit.base.devices import find_device
from robustkit.base.files import own_folder, writable, write_json
from robustkit.base.options import names
from robustkit.base.parallel import default_workers
from robustkit.base.progress import Reporter
from robustkit.comparison.page import compare as compare
from robustkit.evaluation.cell import RunOptions
from robustkit.gates import running as gates
from robustkit.gates.running import check as check
from robustkit.pipeline import evaluate as pipeline
from robustkit.pipeline import models_under_test, resolved, selftest
from robustkit.pipeline.current import StudyStore
from robustkit.pipeline.evaluate import RESULTS
from robustkit.pipeline.request import defended
from robustkit.pipeline.results import build
from robustkit.pipeline.stored import read_study
from robustkit.records.outcomes import SampleOutcomes
from robustkit.records.store import Store, open_runs
from robustkit.reports._evaluated import EvaluationResults
from robustkit.reports._page.pictures import pictures, sample_ids
from robustkit.reports._sample_arrays import SampleTable, write_arrays
from robustkit.reports._samples import write_samples
from robustkit.search import run as searching
from robustkit.study.config import (
    AuditConfig,
    EvaluateConfig,
    Evaluation,
    ReportConfig,
    SearchConfig,
    SelfTestConfig,
)
from robustkit.study.options_run import without_gates

__all__ = ["audit", "check", "compare", "evaluate", "load_runs", "report", "search", "self_test", "train"]


@takes(EvaluateConfig)
def evaluate(config: EvaluateConfig) -> EvaluationResults:
    """Attack ensembles white-box and member to member, and write results, tables, figures and a report.

    Returns
    -------
    EvaluationResults
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
    return _held(config, ungated(config))


@takes(AuditConfig)
def audit(config: AuditConfig) -> EvaluationResults:
    """Evaluate models that somebody else made, and report what was detected, assumed and not tested.

    A model is a file, a folder of files, a ``torch.nn.Module``, or a callable from images (B, C, H, W) in [0, 1] to
    logits (B, L). No code in a file is run unless ``trust_pickle`` says so (:mod:`robustkit.auditing.reading`).

    Returns
    -------
    EvaluationResults
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
    return _held(config, ungated(config))


def ungated(config: EvaluateConfig | AuditConfig) -> EvaluationResults:
    """Evaluate and report, without holding the numbers against what is required: commands show them before that."""
    formats = _formats(config.formats)
    gates.prepare(config)
    config = with_data(config)
    done = pipeline.evaluate(config) if isinstance(config, EvaluateConfig) else running.audit(config)
    command = "evaluate" if isinstance(config, EvaluateConfig) else "audit"
    resolved.write(done.folder, command, without_gates(config), (*done.request.attacks, *done.request.defenses))
    with (config.reporter or Reporter()).alive("writing the report"):
        return report(done.folder, formats=formats, marks=config.marks)


def _held(config: Evaluation, results: EvaluationResults) -> EvaluationResults:
    """Return results whose numbers are what is required of them; a GateError where they are not."""
    gates.enforce(config, config.out)
    return results


def _formats(formats: str | Iterable[str]) -> tuple[str, ...]:
    """Return the named formats, none of an empty list; a UserError suggests the nearest of an unknown one."""
    listed = tuple(formats) if not isinstance(formats, str) else (formats,)
    return names(formats, reports.report) if listed else ()


@takes(SearchConfig)
def search(config: SearchConfig) -> dict[str, Any]:
    """Search the architectures of an ensemble, train them, and write the best ensemble of the candidates to a folder.

    The folder is read by :func:`load_ensemble` and ``--checkpoint``; ``candidates/`` in it holds every candidate as a
    checkpoint of one member, for ``--pool``, and ``search.html`` shows what was found. A search that was killed goes on
    from ``out`` at its last epoch, with the same result.

    Returns
    -------
    dict
        What ``search.json`` holds: settings, candidates with their architectures, costs by phase, history by epoch,
        accuracies.

    Raises
    ------
    UserError
        On bad input, before any work is done.
    RunError
        If a search or a training diverges.
    """
    config = with_data(config)
    return searching.search(config, loaded_data(config))


@takes(SelfTestConfig)
def self_test(config: SelfTestConfig) -> list[selftest.Outcome]:
    """Evaluate planted faults and two sound ensembles, and say of each whether the verdict was right.

    A plain and a PGD-adversarially trained ensemble are trained, or taken from the cache; the faults are planted in the
    plain one. Writes ``self-test.json`` to ``out``.
    """
    models.check(config.arch)
    reporter, on = config.reporter or Reporter(), find_device(config.device)
    loaded = loaded_data(with_data(config))
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
def report(config: ReportConfig) -> EvaluationResults:
    """Render results.json and the named formats again from the store of an evaluation; no attack is run.

    Returns
    -------
    EvaluationResults
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
    outcomes: list[SampleOutcomes] = []
    results = build(study, store, outcomes)
    asked = sample_ids(config.examples, outcomes)
    folder = store.folder.parent
    if config.out:
        folder = own_folder(Path(config.out), "--out", RESULTS, config.force)
    writable(folder, "--out")
    if {"figures", "html"} & set(chosen):
        from robustkit.reports import _suites

        _suites.write_sheets(study, store, folder)
    results["samples"] = write_samples(results, outcomes, folder)
    drawn = pictures(study, store, results, outcomes, asked) if "html" in chosen else ()
    write_arrays(SampleTable(outcomes, *drawn), results["samples"]["sha256"], folder)
    reports.write(results, folder, chosen, marks=config.marks)
    return EvaluationResults(results)


def load_runs(path: str | Path) -> Store:
    """Return the stored runs of an evaluation as it is now: iterate over it, or over its ``cells()``.

    ``load(cell, examples=True)`` gives a run with its images. What was asked for in that folder before is left out.
    """
    return StudyStore(open_runs(path).folder)

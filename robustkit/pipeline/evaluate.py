"""From a configuration to a store that holds all it asks for: the models, the data, the suites, the plan, the run."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from robustkit.attacks import attack
from robustkit.base import options
from robustkit.base.chances import check_members
from robustkit.base.devices import find_devices
from robustkit.base.files import check_folder, writable, write_json
from robustkit.base.names import DEFAULT_SUITES, ESCALATION
from robustkit.base.parallel import default_workers
from robustkit.base.progress import Reporter
from robustkit.base.version import __version__
from robustkit.corruptions._plan import ask, reference_of
from robustkit.corruptions._published import Published
from robustkit.evaluation import executors
from robustkit.evaluation.cell import RunOptions
from robustkit.functional.sending import moved
from robustkit.pipeline import models_under_test, provenance
from robustkit.pipeline.announce import announce, recipe_of
from robustkit.pipeline.models_under_test import ModelUnderTest
from robustkit.pipeline.request import Request, check, check_fusions, target
from robustkit.pipeline.run import run_evaluation
from robustkit.pipeline.sources import OutsideModels, Sources
from robustkit.pipeline.threat import check_images, check_outputs
from robustkit.pipeline.trainings import trained_all
from robustkit.records.cells import Spec
from robustkit.records.store import STUDY, Store
from robustkit.study.config import EvaluateConfig, Evaluation
from robustkit.study.evaluation_data import EvaluationData, evaluation_data, too_many
from robustkit.study.options_run import GATES
from robustkit.study.plan import Study
from robustkit.suites import SuiteRequest, ask_suites
from robustkit.suites._certifying import certifiable

# What tells that a folder is that of an evaluation or of an audit, done or begun.
RESULTS = ("results.json", "runs", "candidates")
ATTACKS = ("attacks", "preset", "backend")  # the options that name attacks


@dataclass(frozen=True)
class Done:
    """An evaluation that has run: the folder whose ``runs/`` hold it, and what was checked before."""

    folder: Path
    request: Request


def evaluate(
    config: Evaluation, outside: OutsideModels | None = None, default_suites: Sequence[str] = DEFAULT_SUITES
) -> Done:
    """Run what a configuration asks for.

    Raises
    ------
    UserError
        On bad input, before any work is done.
    RunError
        If something fails while running; the store keeps what finished.
    """
    reporter = config.reporter or Reporter()
    c = checked(config, outside, default_suites, reporter)
    with executors.opened(None if reporter.planned else c.run_options.executor, reporter):
        _run(config, c, reporter)
    return Done(c.folder, c.request)


def _run(config: Evaluation, c: _Checked, reporter: Reporter) -> None:
    """Run what was checked."""
    with reporter.alive("estimating how long it takes"):
        forecast = announce(config, c, functools.partial(_study, config, c), reporter)
    models = _models(config, c.request, c.data, c.run_options, c.sources, reporter)
    suite_requests = c.suite_requests
    if c.sources.pool:
        named = {
            "pool": c.sources.pool, "models": models, "corruptions": c.corruptions,
            "corruption_dir": config.corruption_dir,
        }  # fmt: skip
        suite_requests = {**suite_requests, **ask_suites(("pools",), SuiteRequest(named, c.data))}
    study = replace(_study(config, c, models), suite_requests=suite_requests)
    if "certified" in suite_requests:
        certifiable({record.id: ensemble for record, ensemble in models}, c.data.split)
    store = Store(c.folder / "runs")
    before = provenance.record_of(store, study)
    on_device = {record.key: ensemble for record, ensemble in models}
    device = c.run_options.device
    on_device |= {record.key: moved(ensemble, device) for record, ensemble, _ in c.sources.outside.surrogates}
    seconds: dict[str, float] = {}
    study = run_evaluation(
        provenance.begun(c.sources.outside.asked or config, study, before), on_device, c.data.split, store,
        c.run_options, reporter, config.escalate_budget if config.escalate else 0.0, c.published, c.data,
        seconds,
    )  # fmt: skip
    write_json(store.folder / STUDY, provenance.ended(study, store, before).to_json())
    if forecast is not None:
        forecast.note(seconds)


@dataclass(frozen=True)
class _Checked:
    """What is known before any work: every part of it was found to fit the others."""

    request: Request
    run_options: RunOptions
    sources: Sources
    data: EvaluationData
    aim: str
    divide_by: str
    published: Published | None
    corruptions: tuple[Spec, ...]
    suite_requests: Mapping[str, Mapping[str, Any]]
    folder: Path


def checked(
    config: Evaluation, outside: OutsideModels | None = None, default_suites: Sequence[str] = DEFAULT_SUITES,
    reporter: Reporter | None = None,
) -> _Checked:  # fmt: skip
    """Return what an evaluation is made of; a UserError says what does not fit, before any work is done."""
    request = check(config, default_suites)
    run_options = _run_options(config)
    sources = Sources.of(config, request, outside)
    request.foresee(config, [*sources.ids, *dict.fromkeys(group for group, _ in sources.groups if group)])
    for meta in sources.metas:
        check_members(config.fusion, len(meta["members"]))
    check_fusions(request.attacks, sources.fusions(config.fusion))
    divide_by = reference_of(config.corruption_reference, sources.ids)
    data = evaluation_data(
        config.dataset, sources.known, data_dir=config.data_dir, download=config.download,
        image_size=config.image_size, n=config.n,
    )  # fmt: skip
    if reporter:
        for note in data.dataset.source.notes:
            reporter.say(note)
        if "n" in config.keywords() and (said := too_many(config.n, data.split)):
            reporter.say(said)
    check_images(request.budgets, data.dataset.shape)
    if any(attack.entry(spec.name).facts.get("least_classes", 0) for spec in request.attacks):
        check_outputs(request.attacks, sources.outputs(data))
    aim = config.target if config.target is not None else "random" if config.targeted else ""
    aim = target(aim, len(data.dataset.classes))
    published = Published(config.corruption_dir) if config.corruption_dir else None
    corrupted = _corruptions(config, request, data, published, sources)
    suite_requests = _ask(config, request, data, sources)
    planned = reporter is not None and reporter.planned is not None
    check_folder(Path(config.out), "--out", RESULTS, config.force)
    folder = Path(config.out) if planned else writable(Path(config.out), "--out")
    return _Checked(request, run_options, sources, data, aim, divide_by, published, corrupted, suite_requests, folder)


def _run_options(config: Evaluation) -> RunOptions:
    """Return how cells are run, and by whom; nothing is started yet."""
    there = config.executor != executors.LOCAL and bool(config.task_gpus)  # the GPUs are the workers'
    devices = find_devices("auto" if there else config.device)
    workers, executor = config.workers or default_workers(*devices), executors.chosen(config, devices[0])
    return RunOptions(devices[0], config.batch_size, config.keep_examples, workers, config.speed, executor, devices)


def _corruptions(
    config: Evaluation, request: Request, data: EvaluationData, published: Published | None, sources: Sources
) -> tuple[Spec, ...]:
    """Return the corruptions of the suite, or those that a pool's validation sets are made with."""
    if "corruptions" in request.suites or (sources.pool and (published or request.corruptions)):
        specs = ask(request.corruptions, tuple(data.dataset.shape), config.frost_dir, published)
        for spec in specs:
            if published is None:
                break
            published.compare(spec.name, spec.params["severity"], data.split.ids, data.split.y, data.split.shape)
        return specs
    return ()


def _ask(config: Evaluation, request: Request, data: EvaluationData, sources: Sources) -> dict[str, Mapping[str, Any]]:
    """Ask each further suite what it is to do; a UserError refuses what cannot be done, before anything is trained."""
    facts = list(sources.outside.facts)
    chosen = (*request.suites, *(("audit",) if facts else ()))
    named = {
        "ood": config.ood, "audit": facts, "certify_n": config.certify_n, "sigma": config.sigma,
        "smoothing_draws": config.smoothing_draws, "eps": request.eps, "norm": request.norm,
        "fusions": sources.fusions(config.fusion),
    }  # fmt: skip
    return ask_suites(chosen, SuiteRequest(named, data))


def _models(
    config: Evaluation, request: Request, data: EvaluationData, run_options: RunOptions, sources: Sources,
    reporter: Reporter,
) -> list[ModelUnderTest]:  # fmt: skip
    """Load the checkpoints, or train the defences, and put everything on the device, each under an id of its own."""
    pairs = list(sources.outside.models)
    if isinstance(config, EvaluateConfig):
        pairs += [
            models_under_test.from_checkpoint(path, meta, config.arch, config.fusion, data.dataset)
            for path, meta in zip(sources.folders, sources.metas, strict=True)
        ]
        if sources.defenses:
            recipe = recipe_of(config, request)
            pairs += trained_all(sources.trainings, data, recipe, run_options, reporter)
    return [
        (replace(record, id=id, group=group, seed=seed), moved(ensemble, run_options.device))
        for id, (group, seed), (record, ensemble) in zip(sources.ids, sources.groups, pairs, strict=True)
    ]


def _study(config: Evaluation, c: _Checked, models: Sequence[ModelUnderTest]) -> Study:
    """Return the plan's data; what further suites are asked for is put in by the caller."""
    request, data = c.request, c.data
    command, given = _commands(c.sources.outside.asked or config)
    return Study(
        ensembles=tuple(record for record, _ in models),
        dataset=data.record(),
        attacks=request.attacks,
        eps=request.eps,
        norm=request.norm,
        transfer_eps=_transfer_eps(config, request, data),
        more_norms={norm: eps for norm, eps in request.budgets.items() if norm != request.norm},
        suites=request.suites,
        target=c.aim,
        reference=config.reference,
        seed=config.seed,
        attack_seed=config.attack_seed,
        version=__version__,
        trust=config.trust,
        eot=config.eot,
        corruptions=c.corruptions,
        corruption_reference=c.divide_by,
        surrogates=tuple(record for record, *_ in c.sources.outside.surrogates),
        command=command,
        given=given,
    )


def _transfer_eps(config: Evaluation, request: Request, data: EvaluationData) -> float:
    """Return the budget of the transfer matrices in the first norm."""
    usual = data.dataset.threat
    return usual.transfer_eps if config.eps is None and request.norm == usual.norm else max(request.eps)


def _commands(config: Evaluation) -> tuple[str, str]:
    """Return the command line of the same models, data and budgets, and the part of it that names its attacks."""
    table = options.assignments(config.settings)
    said = [(name, f"{name}.{key}={value}") for name, params in table.items() for key, value in params.items()]
    others = [text for name, text in said if ":" not in name and name not in attack]
    plain = replace(config, escalate=False, escalate_budget=ESCALATION, settings=others or None)
    named = [field for field in config.given() if field.name in ATTACKS]
    attacks = [word for field in named for word in field.words(getattr(config, field.name))]
    attacks += [word for _, text in said if text not in others for word in ("--set", text)]
    command = "evaluate" if isinstance(config, EvaluateConfig) else "audit"
    # Where nobody was to look there is nothing to escalate: an advice asks for the checks.
    left_out = (*ATTACKS, *GATES, *(("trust",) if config.trust == "off" else ()))
    return plain.command(command, without=left_out), shlex.join(attacks)

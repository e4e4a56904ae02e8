"""The public functions: train, evaluate, report, load_runs. The command line calls these and adds nothing."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from robustkit import data, models, reports
from robustkit.base import options, paths
from robustkit.base.devices import find_device
from robustkit.base.errors import UserError
from robustkit.base.files import listed, writable, write_json
from robustkit.base.names import ESCALATION, SPEEDS
from robustkit.base.parallel import default_workers
from robustkit.base.progress import Reporter
from robustkit.base.version import __version__
from robustkit.corruptions._plan import ask, reference_of
from robustkit.corruptions._published import Published
from robustkit.data import Dataset
from robustkit.ensembles import pool as pools
from robustkit.ensembles.checkpoint import read_meta
from robustkit.evaluation.cell import RunOptions
from robustkit.pipeline import models_under_test, request, selftest
from robustkit.pipeline.request import Names, Settings
from robustkit.pipeline.results import build
from robustkit.pipeline.run import run_evaluation
from robustkit.records.cells import Spec
from robustkit.records.schema import Results
from robustkit.records.store import STUDY, Store, open_runs
from robustkit.reports._history import write_history
from robustkit.study.evaluation_data import evaluation_data
from robustkit.study.plan import Study
from robustkit.suites import SuiteRequest, ask_suites
from robustkit.training.ranks import joined, own_device
from robustkit.training.untrained import accuracies

FORMATS = ("html", "md", "tex", "csv", "figures")
PROGRESS = "training.progress"  # in the --out of a training: where it is, until it is done


def evaluate(
    *,
    defense: Names = "adp",
    checkpoint: Sequence[str | Path] | str | Path | None = None,
    ensembles: Sequence[models_under_test.ModelUnderTest] = (),
    pool: Sequence[str | Path] | str | Path | None = None,
    subset_size: int | None = None,
    pool_attribution: int = 200,
    dataset: str | Dataset = "digits",
    data_dir: str | Path | None = None,
    download: bool = False,
    image_size: int | str | None = None,
    attacks: Names | None = None,
    preset: str | None = None,
    backend: str = "native",
    eps: Any = None,
    norm: str | None = None,
    targeted: bool = False,
    target: str | int | None = None,
    suites: Names | None = None,
    n: int | None = None,
    arch: str | None = None,
    members: int | None = None,
    epochs: int | None = None,
    fusion: str | None = None,
    settings: Settings = None,
    baseline: bool = True,
    reference: bool = True,
    corruptions: Names | None = None,
    ood: Names | None = None,
    frost_dir: str | Path | None = None,
    corruption_dir: str | Path | None = None,
    corruption_reference: str | None = None,
    trust: str = "quick",
    escalate: bool = False,
    escalate_budget: float = ESCALATION,
    eot: int = 1,
    device: str = "auto",
    batch_size: int | None = None,
    speed: str = "auto",
    workers: int | None = None,
    seed: int = 0,
    out: str | Path = "robustkit-out",
    keep_examples: bool = True,
    formats: Iterable[str] = FORMATS,
    audited: Sequence[Mapping[str, Any]] = (),
    surrogates: Sequence[models_under_test.Surrogate] = (),
    reporter: Reporter | None = None,
) -> Results:
    """Attack ensembles white-box and member to member, and write results, tables, figures and a report.

    Parameters
    ----------
    defense : str or list of str
        Defences to train, or to take from the cache; not used with ``checkpoint``.
    checkpoint : path or list of paths
        Folders that ``robustkit train`` wrote, evaluated instead of a defence.
    ensembles : sequence of (EnsembleRecord, Ensemble)
        Evaluated instead of a defence; :func:`robustkit.audit` makes them of other people's models.
    pool : path or list of paths
        Folders that ``robustkit train`` wrote, or folders of such folders: all members of all of them are one pool,
        whose subsets are scored on the clean samples and on each of the ``corruptions`` at its middle severity. Then
        no attack runs unless ``suites`` names it. Not used with ``checkpoint``.
    subset_size : int
        Members of a subset of the pool; by default 3.
    pool_attribution : int
        On how many images the members' saliency maps are compared; 0: none.
    dataset, data_dir, download, image_size
        As for :func:`robustkit.data.load`; or a loaded dataset.
    attacks : str or list of str
        By default pgd and mim, or with ``preset`` none beside the preset's.
    preset : str
        The attack grid of a published table: ``adp-table2``, ``adp-table4``, ``adp-table5``.
    backend : str
        Whose implementation of the attacks runs: ``native``, ``torchattacks`` or ``foolbox``. One attack of another
        library is also named ``torchattacks:VMIFGSM``.
    eps : str, float or list
        Budgets in [0, 1]; text like ``2/255,8/255``. By default the dataset's threat model.
    targeted, target
        White-box attacks aim at a label: ``random`` (seeded; what ``targeted`` alone means), ``least-likely``,
        ``next-best``, or the number of a class.
    ood : str or list of str
        Out-of-distribution sets of the suite ``ood``: names that :func:`robustkit.data.load` takes, with ``near:`` or
        ``far:`` before them; by default those that need no download.
    corruption_reference : str
        By whose errors the mean corruption error divides: the id of one of the ensembles, or ``alexnet``. By default
        AlexNet on ImageNet's classes, else the plain ensemble, if it is evaluated beside others.
    n : int
        Only the first n test samples.
    settings : list of str or mapping
        Parameters of methods, like ``["pgd.steps=50", "adp.alpha=1"]``.
    baseline : bool
        Evaluate the plain ensemble beside the defence.
    reference : bool
        Run a PGD of 100 steps beside the attacks.
    trust : {"quick", "full", "off"}
        What the checks of each number may cost: about 30 % of the attacks' time, about as much as they, or nothing.
    escalate, escalate_budget
        Where a worst case is suspect, run the attacks that its failing checks advise, until it settles or has cost so
        many forward passes for each sample (a backward pass counted as two).
    eot : int
        Passes of the model over which what every attack is shown is averaged, for randomised models; 1: none.
    batch_size : int or None
        Samples attacked at a time; None: by image size and device. Changes no number.
    speed : {"auto", "off", "max"}
        ``off`` attacks the model as it is, ``auto`` a faster copy of it that is proven equal, with a bfloat16 pass
        first where that pays; ``max`` also compiles.
    workers : int or None
        Trainings and cells that run side by side; None: one for each core of a CPU, one on a GPU.
    audited : sequence of mapping
        What is known of other people's models, for the report.
    surrogates : sequence of (EnsembleRecord, Ensemble, mapping)
        Independent models, a row each in the transfer matrices, with what their checkpoints say of their ``data``.

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
    """
    reporter = reporter or Reporter()
    pooled = pools.requested(pool, checkpoint, subset_size, pool_attribution)
    checkpoints = pooled.folders if pooled else listed(checkpoint)
    asked = request.check(
        defenses=() if checkpoints or ensembles else defense, attacks=attacks, preset=preset, backend=backend,
        dataset=dataset if isinstance(dataset, str) else dataset.name, eps=eps, norm=norm, suites=suites,
        fusion=fusion, settings=settings, corruptions=corruptions, ood=ood,
    )  # fmt: skip
    counts = {"n": n, "eot": eot, "batch size": batch_size, "members": members, "epochs": epochs, "workers": workers}
    options.at_least_one(counts)
    options.choice(speed, "speed", SPEEDS)
    request.verdicts(trust, escalate, escalate_budget)
    if arch is not None:
        models.check(arch)
    on = find_device(device)
    run_options = RunOptions(on, batch_size, keep_examples, workers or default_workers(on), speed)
    metas = [read_meta(path) for path in checkpoints]
    defenses = request.beside_baseline(asked.defenses) if baseline else asked.defenses
    named = [*(record.id for record, _ in ensembles), *(models_under_test.name_of(meta) for meta in metas)]
    ids = models_under_test.distinct(named or [one.name for one in defenses])
    divide_by = reference_of(corruption_reference, ids)
    known = [*metas, *({} for _ in ensembles), *(of_data for *_, of_data in surrogates)]
    on_what = evaluation_data(dataset, known, data_dir=data_dir, download=download, image_size=image_size, n=n)
    loaded, split = on_what.dataset, on_what.split
    aim = request.target(target if target is not None else "random" if targeted else "", len(loaded.classes))
    published = Published(corruption_dir) if corruption_dir else None
    corrupted: tuple[Spec, ...] = ()
    if "corruptions" in asked.suites or (pooled and published):
        corrupted = ask(asked.corruptions, tuple(loaded.shape), frost_dir, published)
    if pooled and suites is None:  # the pool alone
        asked = replace(asked, suites=())
    named_options: dict[str, Any] = {"ood": ood, "audit": list(audited)}
    chosen = (*asked.suites, *(("audit",) if audited else ()))
    further = ask_suites(chosen, SuiteRequest(named_options, on_what))
    folder = writable(Path(out), "--out")
    pairs = list(ensembles)
    if checkpoints:
        pairs += [
            models_under_test.from_checkpoint(p, m, arch, asked.fusion, loaded)
            for p, m in zip(checkpoints, metas, strict=True)
        ]
    elif not ensembles:
        recipe = {**asked.training, "arch": arch, "members": members, "epochs": epochs, "fusion": asked.fusion}
        pairs += models_under_test.trained_all(defenses, on_what, recipe, run_options, reporter, seed)
    pairs = [(replace(record, id=id), ensemble.to(on)) for id, (record, ensemble) in zip(ids, pairs, strict=True)]
    if pooled:
        more = {"pool": pooled, "models": pairs, "corruptions": corrupted, "corruption_dir": corruption_dir}
        further |= ask_suites(("pools",), SuiteRequest(more, on_what))
    study = Study(
        ensembles=tuple(record for record, _ in pairs), dataset=on_what.record(), attacks=asked.attacks, eps=asked.eps,
        norm=asked.norm, transfer_eps=loaded.threat.transfer_eps if eps is None else max(asked.eps),
        suites=asked.suites, target=aim, reference=reference, seed=seed, version=__version__, trust=trust, eot=eot,
        corruptions=corrupted, corruption_reference=divide_by, suite_requests=further,
        surrogates=tuple(record for record, *_ in surrogates),
    )  # fmt: skip
    on_device = {record.key: ensemble for record, ensemble in pairs}
    on_device |= {record.key: ensemble.to(on) for record, ensemble, _ in surrogates}
    run_evaluation(
        study, on_device, split, Store(folder / "runs"), run_options, reporter,
        escalate_budget if escalate else 0.0, published, on_what,
    )  # fmt: skip
    return report(folder, formats=formats)


def train(
    *,
    defense: str = "adp",
    dataset: str = "digits",
    data_dir: str | Path | None = None,
    download: bool = False,
    image_size: int | str | None = None,
    arch: str | None = None,
    members: int | None = None,
    epochs: int | None = None,
    fusion: str | None = None,
    settings: Settings = None,
    preset: str | None = None,
    device: str = "auto",
    speed: str = "auto",
    seed: int = 0,
    out: str | Path = "robustkit-ensemble",
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Train an ensemble and write it to a folder that :func:`load_ensemble` and ``--checkpoint`` read.

    Parameters are those of :func:`evaluate`, and ``preset="paper"``, which takes members, epochs, optimiser, schedule
    and the defence's own parameters from its paper where nothing else is asked for. Returns the metrics: validation
    and test accuracy, fused and per member, best epoch, seconds. An equal training in the cache is reused; one that
    was killed goes on from ``out``. Beside the checkpoint come history.csv and history.png: a row, a point per epoch.

    Under ``torchrun`` the processes share each batch; all of them call this with the same arguments.
    """
    reporter = reporter or Reporter()
    if preset is not None:
        options.choice(preset, "preset", ("paper",))
    # The attacks are not run; any registered one makes the request whole.
    asked = request.check(
        defenses=defense, attacks="pgd", dataset=dataset, fusion=fusion, settings=settings, paper=preset is not None
    )
    if len(asked.defenses) != 1:
        raise UserError(f"train takes one defence, not {len(asked.defenses)}; run it once for each.")
    options.at_least_one({"members": members, "epochs": epochs})
    options.choice(speed, "speed", SPEEDS)
    if arch is not None:
        models.check(arch)
    on = own_device(find_device(device))
    load = functools.partial(data.load, data_dir=data_dir, download=download, image_size=image_size)
    loaded, outliers = load(dataset), models_under_test.outliers_of(asked.defenses[0], load)
    folder = writable(Path(out), "--out")
    recipe = {**asked.training, "arch": arch, "members": members, "epochs": epochs, "fusion": asked.fusion}
    with joined(on) as ranks:
        spec = models_under_test.train_spec(
            asked.defenses[0], loaded, recipe, paper=asked.recipe, outliers=outliers, speed=speed, seed=seed,
            processes=ranks.world,
        )  # fmt: skip
        heard = reporter if ranks.leads else Reporter()
        progress = folder / PROGRESS
        _, ensemble = models_under_test.trained(
            spec, loaded, on, heard, outliers=outliers, progress=progress, ranks=ranks
        )
        meta = read_meta(paths.cache_dir() / "ensembles" / spec.key)
        test, own = accuracies(ensemble.to(on), loaded.split("test"))
        metrics = {**meta["metrics"], "test_accuracy": test, "test_member_accuracy": own}
        if ranks.leads:
            models_under_test.save(ensemble, folder, spec, loaded, metrics, meta["history"])
            write_history(meta["history"], folder, f"{spec.defense.name} on {spec.dataset}")
    return metrics


def self_test(
    *,
    dataset: str = "digits",
    data_dir: str | Path | None = None,
    arch: str = "lenet",
    epochs: int = 20,
    n: int = selftest.SAMPLES,
    device: str = "auto",
    workers: int | None = None,
    seed: int = 0,
    out: str | Path = "robustkit-self-test",
    reporter: Reporter | None = None,
) -> list[selftest.Outcome]:
    """Evaluate planted faults and two sound ensembles, and say of each whether the verdict was right.

    A plain and a PGD-adversarially trained ensemble are trained, or taken from the cache; the faults are planted in the
    plain one. Writes ``self-test.json`` to ``out``. Parameters are those of :func:`evaluate`.
    """
    reporter = reporter or Reporter()
    options.at_least_one({"epochs": epochs, "n": n, "workers": workers})
    models.check(arch)
    on, loaded = find_device(device), data.load(dataset, data_dir=data_dir)
    folder = writable(Path(out), "--out")
    ensembles = {}
    for name in ("baseline", "advt-pgd"):
        asked = request.check(defenses=name, attacks="pgd", dataset=dataset)
        recipe = {"arch": arch, "epochs": epochs}
        spec = models_under_test.train_spec(asked.defenses[0], loaded, recipe, speed="off", seed=seed)
        ensembles[name] = models_under_test.trained(spec, loaded, on, reporter)[1].to(on)
    run_options = RunOptions(on, keep_examples=False, workers=workers or default_workers(on))
    plain = ensembles.pop("baseline")
    outcomes = selftest.run(plain, loaded, run_options, reporter, sound=ensembles, n=n, seed=seed)
    write_json(folder / "self-test.json", [outcome.to_json() for outcome in outcomes])
    return outcomes


def report(path: str | Path, *, formats: Iterable[str] = FORMATS, out: str | Path | None = None) -> Results:
    """Render results.json and the named formats again from the store of an evaluation; no attack is run.

    Parameters
    ----------
    path : path
        The ``--out`` folder of an evaluation, or its ``runs/``.
    out : path or None
        Where to write; by default beside the runs.
    """
    chosen = list(dict.fromkeys([*formats, "json"]))
    for name in chosen:
        reports.report.entry(name)
    store = open_runs(path)
    try:
        study = Study.from_json(json.loads((store.folder / STUDY).read_text("utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"'{store.folder / STUDY}' cannot be read ({error}); run `robustkit evaluate` again.") from None
    results = build(study, store)
    folder = writable(Path(out) if out else store.folder.parent, "--out")
    if {"figures", "html"} & set(chosen):
        from robustkit.reports import _suites

        _suites.write_sheets(study, store, folder)
    reports.write(results, folder, chosen)
    return results


def load_runs(path: str | Path) -> Store:
    """Return the stored runs of an evaluation: iterate over it, or ``load(cell, examples=True)`` for the images."""
    return open_runs(path)

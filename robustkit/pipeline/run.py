"""A whole evaluation: the attacks that were asked for, the checks of their numbers, and what these advise to run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

from robustkit import suites
from robustkit.base.errors import RunError
from robustkit.base.files import write_json
from robustkit.base.progress import Reporter
from robustkit.corruptions._published import Published
from robustkit.corruptions._run import run_corruptions
from robustkit.data import Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.evaluation.cell import RunOptions
from robustkit.evaluation.execute import Craftings, execute
from robustkit.evaluation.pieces import LostError
from robustkit.pipeline import costs
from robustkit.records import originals
from robustkit.records.cells import LENGTHS, counted
from robustkit.records.store import STUDY, Store
from robustkit.study.evaluation_data import EvaluationData
from robustkit.study.plan import Study
from robustkit.study.reference import REFERENCE
from robustkit.suites import Job
from robustkit.trust._escalate import next_round
from robustkit.trust._plan import NORMS
from robustkit.trust._run import probe_all

ROUNDS = 16  # of escalation at most; six follow where no check advises anything
RATIO = ("apgd-dlr", "autoattack")  # ascend the DLR ratio
FOR_MEMBERS = ("mora", "quorum")  # do not, and look at the members


def run_evaluation(
    study: Study, ensembles: Mapping[str, Ensemble], split: Split, store: Store, run_options: RunOptions,
    reporter: Reporter, escalate: float = 0.0, published: Published | None = None, data: EvaluationData | None = None,
    seconds: dict[str, float] | None = None,
) -> Study:  # fmt: skip
    """Run what the store lacks of a study, and note the study in the store; return it with what followed.

    Parameters
    ----------
    ensembles : mapping of str to Ensemble
        By the key that the study's ensemble records carry.
    escalate : float
        What may follow on a suspect worst case, in forward passes for each sample; 0: nothing.
    published : Published or None
        A published set of corrupted images that the study's corruptions are read from.
    data : EvaluationData or None
        Where the split is from; the study's further suites need the rest of it.
    seconds : dict or None
        Filled with the wall time of each stage: ``attacks``, ``corruptions``, a suite, ``probes``, ``escalation``.
    """
    craftings = Craftings(study, ensembles, split, run_options, reporter)
    warned: set[str] = set()

    def run(study: Study) -> None:
        write_json(store.folder / STUDY, study.to_json())
        for warning in execute(study, ensembles, split, store, run_options, reporter, craftings):
            if warning not in warned:
                reporter.say(f"[yellow]warning:[/yellow] {warning}")
            warned.add(warning)

    lost: list[str] = []

    @contextlib.contextmanager
    def stage(name: str) -> Iterator[None]:
        """Note how long a stage takes; what its workers could not finish is said once all other stages are done."""
        with costs.noting({} if seconds is None else seconds, name, time.perf_counter):
            try:
                yield
            except LostError as error:
                lost.append(str(error))

    if run_options.keep_examples and {"attacks", "transfer"} & set(study.suites):
        originals.keep(store, study.dataset.sha256, study.version, split)
    for note in [*notes(study), *of_single(study), *of_norms(study, escalating=bool(escalate))]:
        reporter.say(f"[dim]{note}[/dim]")
    with stage("attacks"):
        run(study)
    with stage("corruptions"):
        for warning in run_corruptions(study, ensembles, split, store, run_options, reporter, published):
            reporter.say(f"[yellow]warning:[/yellow] {warning}")
    for name, asked in study.suite_requests.items():
        if data is None:
            raise ValueError(f"suite '{name}' needs the dataset")
        job = Job(study, asked, ensembles, data, store, run_options, reporter, craftings)
        with stage(name):
            for warning in suites.get(name).run(job):
                reporter.say(f"[yellow]warning:[/yellow] {warning}")
    checked = study.trust != "off" and "attacks" in study.suites
    if checked:
        with stage("probes"):
            probe_all(study, ensembles, split, store, run_options, reporter, craftings)
    if lost:
        raise RunError(" ".join(lost))
    for _ in range(ROUNDS if escalate and checked else 0):
        more = next_round(study, store, escalate)
        if not more:
            break
        ids = {record.key: record.id for record in study.ensembles}
        for one in more:
            what, why = ", ".join([one.attack.name, *counted(one.attack.params, LENGTHS, 0)]), ", ".join(one.because)
            reporter.say(f"escalating {ids[one.ensemble]} at eps {one.eps:.4g}: {what} ({why})")
        study = replace(study, follow_ups=(*study.follow_ups, *more))
        with stage("escalation"):
            run(study)
    return study


def notes(study: Study) -> list[str]:
    """Return what to know of the attacks that were asked for, a sentence each."""
    named = {spec.name for spec in study.attacks}
    ratio = [spec.name for spec in study.attacks if spec.name in RATIO or spec.params.get("loss") == "dlr"]
    means = [record.id for record in study.ensembles if record.fusion == "mean-prob" and record.members > 1]
    if "attacks" not in study.suites or not ratio or not means or named & {*FOR_MEMBERS}:
        return []
    instead = f"{REFERENCE}, the reference, is not" if study.reference else f"add {REFERENCE} to --attacks"
    return [
        f"{', '.join(dict.fromkeys(ratio))}: the DLR ratio is nearly blind on a mean probability ({', '.join(means)}); "
        f"{instead} (docs/evaluate.md)."
    ]


def of_single(study: Study) -> list[str]:
    """Return what an attack that reweighs members is of a model that has one, a sentence."""
    single = [record.id for record in study.ensembles if record.members == 1]
    if "attacks" not in study.suites or not single or all(spec.name != "mora" for spec in study.attacks):
        return []
    return [
        f"mora: where there is one member ({', '.join(single)}), it reweighs nothing, and ascends "
        "the cross-entropy, as pgd does."
    ]


def of_norms(study: Study, escalating: bool) -> list[str]:
    """Return what is not done in some norms of a study although it was asked for, a sentence each."""
    found = []
    if "transfer" in study.suites and (alone := study.threats.keys() - {norm for norm, _ in study.transferred()}):
        found.append(f"{', '.join(sorted(alone))}: no attack with a budget runs, so that there is no transfer matrix.")
    if escalating and (others := [norm for norm in study.threats if norm not in NORMS]):
        found.append(f"{', '.join(others)}: nothing follows on a suspect worst case; --escalate works in linf and l2.")
    return found

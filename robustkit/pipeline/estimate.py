"""How long an evaluation or a training will take: counts of passes and steps, times what these take here, now.

What a trial cannot see - how many images an attack leaves standing, what probes and suites cost beside the attacks - is
taken from what the same question cost on this machine before (:mod:`robustkit.pipeline.costs`), else guessed from the
runs that the constants here were measured on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from robustkit.base.devices import machine
from robustkit.base.parallel import sharing
from robustkit.base.progress import Reporter
from robustkit.corruptions._plan import cells as corruption_cells
from robustkit.data import Dataset, Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.ensembles.fastpath import fastest
from robustkit.evaluation.cell import RunOptions, run_cell
from robustkit.evaluation.crafting import rough_params
from robustkit.evaluation.execute import Craftings
from robustkit.pipeline import costs, trial
from robustkit.pipeline.attack_costs import LAST, PILOT, Count, Pilot, full, guessed, standing
from robustkit.pipeline.plan_of import Plan
from robustkit.records.cells import Cell, EnsembleRecord, digest
from robustkit.records.samples import Samples
from robustkit.records.store import Store
from robustkit.study.plan import Study, steps_of
from robustkit.training.spec import TrainSpec
from robustkit.trust._escalate import last_resorts
from robustkit.trust._plan import NORMS

PROBES = {"off": 0.0, "quick": 0.35, "full": 1.0}  # seconds of the checks for each second of the white-box attacks
SUITES = {
    "detection": 180.0, "ood": 6.0, "calibration": 2.0, "diversity": 40.0, "pools": 20.0, "certified": 400.0,
    "smoothing": 400.0,
}  # passes an image  # fmt: skip
ROUGHLY = 0.8  # of the passes of a long attack that a rough model takes, where there is one
GRADIENT = 3.0  # forward passes that one with its backward pass costs
SHORT = 15.0  # seconds of work that is begun without a trial
EPOCH = 1.1  # epochs for each of its steps' seconds: validation, copies of weights, files
FIXED = 1.0  # seconds of a training beside its epochs: ways of computing tried, the ensemble written and read
REPORT = 5.0  # seconds for tables, figures and the page
ESCALATION = 1.5  # seconds of what follows on worst cases, but for the last resort, for each of the white-box attacks

Job = tuple[TrainSpec, Dataset | None]


@dataclass
class Forecast:
    """A plan with what it was made of: so that a run can note what it cost, in the same units.

    ``units`` are seconds for one of the stage's own pieces; ``keys`` name the stages in the file of costs.
    """

    plan: Plan
    units: dict[str, float] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)

    def note(self, seconds: Mapping[str, float]) -> None:
        """Keep what the stages of a whole run really cost."""
        found = {self.keys[s]: took / self.units[s] for s, took in seconds.items() if self.units.get(s) and took > 0}
        if found and not self.plan.stored:
            costs.note(found)


@dataclass(frozen=True)
class Question:
    """What is to be forecast: a study whose models are there, or will be trained.

    Attributes
    ----------
    ensembles : mapping of str to Ensemble
        By the key of their record; of those that are not trained yet an untrained one.
    untrained : set of str
        The keys of these.
    jobs : sequence of (TrainSpec, Dataset or None)
        The trainings that are still to be done; ``cached`` have been.
    escalate : float
        What may follow on a worst case, in forward passes for each sample; 0: nothing does.
    """

    study: Study
    ensembles: Mapping[str, Ensemble]
    untrained: frozenset[str]
    jobs: Sequence[Job]
    cached: int
    data: Dataset
    split: Split
    store: Store
    run_options: RunOptions
    escalate: float = 0.0


def forecast(q: Question) -> Forecast:
    """Return the plan of an evaluation with its time; about a second or two of trial, and nothing is written."""
    cells = [*q.study.cells(), *corruption_cells(q.study)]
    stored = sum(q.store.has_file(cell) for cell in cells if cell.ensemble not in q.untrained)
    names = ", ".join(record.id for record in q.study.ensembles)
    what = f"{q.study.dataset.name}, {q.study.dataset.n} images: {names}"
    seconds = _training(q)
    if stored == len(cells):
        return Forecast(Plan(what, len(cells), stored, q.cached, q.cached, seconds={"report": REPORT}))
    with sharing(q.run_options.workers):
        counted = _Counted(q)
        stages = counted.stages()
    known, units, keys = costs.known(), {}, {}
    for name, guess in stages.items():
        units[name] = counted.unit
        keys[name] = costs.key(name, **_about(q, name))
        seconds[name] = known.get(keys[name], guess / counted.unit) * counted.unit * (1 - stored / len(cells))
    keys["report"], units["report"] = costs.key("report", ensembles=len(q.study.ensembles)), 1.0
    seconds["report"] = known.get(keys["report"], REPORT)
    plan = Plan(
        what, len(cells), stored, len(q.jobs) + q.cached, q.cached, counted.forwards, counted.backwards, seconds
    )
    return Forecast(plan, units, keys)


def is_short(q: Question) -> bool:
    """Return whether the work takes no longer than a few trials: nobody waits to be told so."""
    ensemble = q.ensembles[q.study.ensembles[0].key]
    _, x, _ = q.split.batch(range(min(16, len(q.split))))
    one = fastest(lambda: ensemble(x.to(q.run_options.device)), q.run_options.device, repeats=2) / len(x)
    epochs = sum(spec.epochs for spec, _ in q.jobs) * len(q.data.split("train"))
    attacked = sum(steps_of(cell) for cell in q.study.cells()) * len(q.split)
    suites = sum(SUITES.get(name, 0.0) for name in q.study.suites) * len(q.split) * len(q.study.ensembles)
    corrupted = len(q.study.corruptions) * len(q.split)
    searched = sum(len(last_resorts(record.members, q.escalate)) for record in q.study.ensembles)
    last = LAST * len(_budgets(q)) * searched * len(q.split)
    return GRADIENT * one * (epochs + attacked + suites + corrupted + last) < SHORT


def _budgets(q: Question) -> list[tuple[str, float]]:
    """Return the norms and budgets that an escalation knows."""
    return [(norm, eps) for norm in NORMS for eps in q.study.threats.get(norm, ()) if eps > 0]


def _training(q: Question) -> dict[str, float]:
    if not q.jobs:
        return {}
    return {"training": training_seconds(q.jobs, q.data, q.run_options)}


def training_seconds(jobs: Sequence[Job], data: Dataset, run_options: RunOptions) -> float:
    """Return how long trainings take that run as many side by side as there are workers."""
    seeds: dict[str, int] = {}
    for at, (spec, _) in enumerate(jobs):  # trainings that differ in the seed alone take the same time
        seeds.setdefault(_but_seed(spec), at)
    distinct = [jobs[at] for at in seeds.values()]
    while len(distinct) < min(len(jobs), run_options.workers):  # as busy as the run will be
        distinct.append(jobs[len(distinct)])
    steps = dict(zip([_but_seed(spec) for spec, _ in distinct], trial.steps(distinct, data, run_options), strict=True))
    n = len(data.split("train"))
    free = [0.0] * max(1, min(run_options.workers, len(jobs)))
    for spec, _ in jobs:
        took = FIXED + EPOCH * spec.epochs * math.ceil(n / spec.batch_size) * steps[_but_seed(spec)]
        first = free.index(min(free))
        free[first] += took
    return max(free)


def _but_seed(spec: TrainSpec) -> str:
    return digest({**spec.to_json(), "seed": 0})


def _about(q: Question, stage: str) -> dict[str, Any]:
    """Return what decides the cost of a stage, an image: the question, but for seeds, weights and how many images."""
    study = q.study.to_json()
    shown = {k: study[k] for k in ("attacks", "eps", "norm", "transfer_eps", "suites", "target", "reference", "trust")}
    models = [[record.defense, list(record.arch), record.members, record.fusion] for record in q.study.ensembles]
    own = {"escalate": q.escalate} if stage == "escalation" else {}
    own |= {"more_norms": study["more_norms"]} if "more_norms" in study else {}
    return {
        **shown, "data": study["dataset"]["name"], "models": models, "eot": q.study.eot,
        "device": machine(q.run_options.device), **own,
    }  # fmt: skip


class _Counted:
    """Counts the passes of a study, and times them."""

    def __init__(self, q: Question) -> None:
        self.q, self.n = q, len(q.split)
        self.craftings = Craftings(q.study, q.ensembles, q.split, q.run_options, Reporter())
        self.forwards = self.backwards = 0.0
        self.white_box = self.attacks = self.last = 0.0
        first = q.study.ensembles[0]
        self.passes = {}
        self.full: dict[str, Count] = {}
        alike: dict[str, trial.Passes] = {}
        for record in q.study.ensembles:
            ensemble = q.ensembles[record.key]
            if _kind(record) not in alike:
                alike[_kind(record)] = trial.passes(ensemble, self.craftings.of(record.key), q.split, q.run_options)
            self.passes[record.key] = alike[_kind(record)]
        everyone = len(q.study.ensembles)
        self.unit = self.passes[first.key].both * self.n * everyone
        if "attacks" in q.study.suites or "transfer" in q.study.suites:
            for record in q.study.ensembles:
                self._attacks(record, PILOT / everyone)

    def _attacks(self, record: EnsembleRecord, seconds: float) -> None:
        q, ensemble = self.q, self.q.ensembles[record.key]
        clean = _clean(q, record, ensemble)
        one = self.passes[record.key]
        pilot = None
        if record.key not in q.untrained:
            crafting = self.craftings.of(record.key)
            pilot = Pilot(ensemble, crafting, q.split, clean, q.run_options, seconds, one.both)
        largest = max(q.data.threat.eps, default=0.0)
        for chain in (chain for chain in q.study.chains() if chain[0].ensemble == record.key):
            white = chain[0].kind == "attack"
            count = pilot.count(chain) if pilot and white else None
            if count is None:
                kind = _kind(record) + chain[0].name + str(sorted(chain[0].params.items()))
                if kind not in self.full:
                    self.full[kind] = full(chain[0], ensemble, q.split, clean, q.run_options)
                count = guessed(chain, q.study, self.full[kind], self.n, largest)
            alone = 1 / record.members if chain[0].source.startswith("member-") else 1.0
            self.forwards += count.forwards * self.n * alone
            self.backwards += count.backwards * self.n * alone
            both = (1 - ROUGHLY) * one.both + ROUGHLY * one.rough if rough_params(chain[0]) else one.both
            took = self.n * (
                alone * (count.backwards * both + max(0.0, count.forwards - count.backwards) * one.forward)
                + len(chain) * one.score
            )
            self.attacks += took
            self.white_box += took if white else 0.0
        if last := last_resorts(record.members, q.escalate):
            self.last += self.n * len(last) * LAST * self._left(pilot, largest) * one.both

    def _left(self, pilot: Pilot | None, largest: float) -> float:
        """Return the shares of the images that the attacks leave at the budgets that an escalation knows, in all."""
        seen = pilot.left if pilot else {}
        return sum(seen.get(budget, standing(budget[1], largest)) for budget in _budgets(self.q))

    def stages(self) -> dict[str, float]:
        """Return a guess of the seconds of each stage."""
        q, study = self.q, self.q.study
        found = {"attacks": self.attacks} if self.attacks else {}
        if study.corruptions and "corruptions" in study.suites:
            made = trial.corrupting(study.corruptions, q.split, q.run_options) / max(1, q.run_options.workers)
            scored = len(study.corruptions) * sum(one.score for one in self.passes.values())
            found["corruptions"] = self.n * (made + scored)
        for name in SUITES:
            if name in study.suites or name in study.suite_requests:
                found[name] = SUITES[name] * self.unit
        if "attacks" in study.suites and PROBES[study.trust]:
            found["probes"] = PROBES[study.trust] * self.white_box
            if q.escalate:
                found["escalation"] = ESCALATION * self.white_box + self.last
        return found


def _kind(record: EnsembleRecord) -> str:
    """Return what decides how long a pass takes."""
    return str((record.arch, record.members, record.fusion))


def _clean(q: Question, record: EnsembleRecord, ensemble: Ensemble) -> Samples:
    """Return the clean scores of as many images as a trial looks at."""
    few = q.split.take(min(len(q.split), 64))
    cell = Cell("clean", record.key, q.study.dataset.sha256)
    return run_cell(cell, ensemble, few, None, q.run_options).samples

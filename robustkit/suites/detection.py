"""Detection of adversarial images by how normal they look, against attackers who ignore and who know the detector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from robustkit.attacks import attack
from robustkit.attacks import spec as attack_spec
from robustkit.base.parallel import run_all
from robustkit.data import Split
from robustkit.evaluation.cell import run_cell
from robustkit.evaluation.execute import describe
from robustkit.metrics.scores import NEEDS_MEMBERS
from robustkit.records.cells import Cell, EnsembleRecord, Run, Spec
from robustkit.records.samples import Samples
from robustkit.records.schema_suites import DetectionResult
from robustkit.records.store import Store
from robustkit.study.plan import Study
from robustkit.suites import Job, SuiteRequest, suite
from robustkit.suites._detection_rows import rows, worst
from robustkit.suites._ladder import Attacked, strong_enough

IMAGES = 1200  # that are attacked at most, so that 1,000 are left where some are wrong from the start
ADAPTIVE_IMAGES = 200  # that the attacker who knows the detector attacks: its runs are long, and there is one a score
ATTACKED = ("log-ed", "msp", "energy")  # scores that this attacker attacks
ADAPTIVE = "adaptive-pgd"
SETTINGS = {"steps": 50, "search_steps": 2}


@suite("detection", title="Detection of adversarial images")
class Detection:
    """ROC of every score between normal images and adversarial ones of every attack with a budget."""

    @staticmethod
    def ask(request: SuiteRequest) -> Mapping[str, Any]:
        """Return how many images are attacked, and how the attacker who knows the detector does it."""
        parts = {"images": IMAGES, "adaptive_images": ADAPTIVE_IMAGES}
        taken = {name: _part(request.data.split, most) for name, most in parts.items()}
        return {
            **{name: {"n": len(part), "sha256": part.sha256()} for name, part in taken.items()},
            "adaptive": [attack_spec(ADAPTIVE, score=score, **SETTINGS).to_json() for score in ATTACKED],
        }

    @staticmethod
    def run(job: Job) -> list[str]:
        """Attack at growing budgets, then adaptively at those that were enough."""
        study, warned = job.study, dict[str, None]()
        pairs = [(record, spec) for record in study.ensembles for spec in oblivious(study)]
        if not pairs:
            ids = ", ".join(record.id for record in study.ensembles)
            return [f"{ids}: no attack has a budget, so that detection has nothing to detect; add --attacks pgd"]

        def strong(pair: tuple[EnsembleRecord, Spec]) -> Cell:
            record, spec = pair
            obtain = _Runner(job, record, "images", len(pairs), warned)
            clean = _take(job.store.get(study.clean(record)), job.request["images"]["n"])
            return strong_enough(study, record, spec, obtain.sha256, clean, obtain).cell

        records = {record.key: record for record in study.ensembles}
        further: dict[str, Cell] = {}  # several attacks at one eps have one adaptive attacker
        for cell in run_all(strong, pairs, job.run_options.workers):
            further.update({known.key: known for _, known in adaptive(study, records[cell.ensemble], cell)})

        def informed(cell: Cell) -> None:
            _Runner(job, records[cell.ensemble], "adaptive_images", len(further), warned)(cell)

        run_all(informed, list(further.values()), job.run_options.workers)
        return list(warned)

    @staticmethod
    def results(study: Study, store: Store) -> list[DetectionResult]:
        """Return a row for each ensemble, attack and score, and for each score the worst over the attacks."""
        found: list[DetectionResult] = []
        images = study.suite_requests["detection"]["images"]
        for record in study.ensembles:
            clean = _take(store.get(study.clean(record)), images["n"])
            own: list[DetectionResult] = []
            for spec in oblivious(study):
                made = strong_enough(study, record, spec, images["sha256"], clean, store.get)
                own += rows(record, made, clean, _informed(study, store, record, made))
            found += [*own, *(worst(own) if len(oblivious(study)) > 1 else [])]
        return found


def oblivious(study: Study) -> tuple[Spec, ...]:
    """Return the attacks that have a budget and know no detector."""
    return tuple(spec for spec in study.transferred() if spec.name != ADAPTIVE)


def adaptive(study: Study, record: EnsembleRecord, cell: Cell) -> Iterator[tuple[str, Cell]]:
    """Yield the scores that are attacked, each with the cell of its attacker at the budget of an oblivious attack."""
    asked = study.suite_requests["detection"]
    if cell.norm not in attack.entry(ADAPTIVE).facts["norms"]:
        return
    for value in asked["adaptive"]:
        spec = Spec.from_json(value)
        if record.members > 1 or spec.params["score"] not in NEEDS_MEMBERS:
            data = asked["adaptive_images"]["sha256"]
            yield spec.params["score"], replace(cell, attack=spec, data=data, backend="native", eot=study.eot)


def _informed(study: Study, store: Store, record: EnsembleRecord, made: Attacked) -> dict[str, Run]:
    return {score: store.get(cell) for score, cell in adaptive(study, record, made.cell)}


@dataclass(frozen=True)
class _Runner:
    """Returns the run of a cell on some of the study's images; makes and saves it where the store lacks it."""

    job: Job
    record: EnsembleRecord
    part: str  # of the images: a key of what was asked
    beside: int  # how many of its kind may run at a time
    warned: dict[str, None]

    @property
    def sha256(self) -> str:
        return str(self.job.request[self.part]["sha256"])

    def __call__(self, cell: Cell) -> Run:
        job, record = self.job, self.record
        run = job.store.load(cell)
        if run is None:
            split = _part(job.data.split, job.request[self.part]["n"])
            clean = _take(job.store.get(job.study.clean(record)), len(split))
            run_options = replace(job.run_options, workers=max(1, job.run_options.workers // max(1, self.beside)))
            score = f", {cell.params['score']}" if cell.name == ADAPTIVE else ""
            name = f"detection, {record.id}: {describe(cell)}{score}"
            with job.reporter.task(name, len(split)) as advance:
                ensemble, crafting = job.ensembles[record.key], job.craftings.of(record.key)
                run = run_cell(cell, ensemble, split, clean, run_options, advance, crafting)
            job.store.save(run)
            job.reporter.finished(name, run.seconds)
        self.warned.update(dict.fromkeys(f"{record.id}: {warning}" for warning in run.warnings))
        return run


def _part(split: Split, most: int) -> Split:
    return split if len(split) <= most else split.take(most)


def _take(clean: Run, n: int) -> Samples:
    """Return the first of the unperturbed samples."""
    return clean.samples.select(slice(0, n))

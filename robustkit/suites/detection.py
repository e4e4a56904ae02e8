"""Detection of adversarial images by how normal they look, against attackers who ignore and who know the detector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from robustkit.attacks import attack
from robustkit.attacks import spec as attack_spec
from robustkit.base.progress import Finish
from robustkit.data import Split
from robustkit.evaluation import pieces
from robustkit.evaluation.execute import describe
from robustkit.evaluation.executors import Executor, Piece, Session
from robustkit.metrics.scores import NEEDS_MEMBERS
from robustkit.records.cells import Cell, EnsembleRecord, Run, Spec
from robustkit.records.samples import Samples
from robustkit.records.schema_suites import DetectionResult
from robustkit.records.store import Store
from robustkit.study.plan import Study, steps_of
from robustkit.suites import Job, SuiteRequest, suite
from robustkit.suites._detection_rows import rows, worst
from robustkit.suites._ladder import Attacked, lacking, strong_enough

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
        pairs = [(record, spec) for record in job.study.ensembles for spec in oblivious(job.study)]
        if not pairs:
            ids = ", ".join(record.id for record in job.study.ensembles)
            return [f"{ids}: no attack has a budget, so that detection has nothing to detect; add --attacks pgd"]
        executor = pieces.executor_of(job.run_options)
        with (
            job.reporter.pieces("detection", len(pairs)) as advance,
            executor.session(len(pairs), job.reporter) as session,
        ):
            running = _Running(job, executor, session)
            for pair in pairs:
                running.climb(pair[0], pair[1], advance)
            for done in pieces.given(session):
                job.store.save(run := pieces.placed(done.value, done))
                node = f", {done.where['node']}" if done.where else ""
                job.reporter.finished(done.piece.label + node, run.seconds)
                if done.piece.tag is not None:
                    running.climb(done.piece.tag[0], done.piece.tag[1], advance)
        return list(_warnings(job, pairs))

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
    return tuple(spec for norm, spec in study.transferred() if norm == study.norm and spec.name != ADAPTIVE)


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


class _Running:
    """Ladders of budgets, each rung run when the one below it was not enough, then who knows the detector."""

    def __init__(self, job: Job, executor: Executor, session: Session) -> None:
        self._job, self._executor, self._session = job, executor, session
        self._begun: set[str] = set()  # several attacks at one eps have one adaptive attacker
        parts = ("images", "adaptive_images")
        self._splits = {part: _part(job.data.split, job.request[part]["n"]) for part in parts}

    def climb(self, record: EnsembleRecord, spec: Spec, advance: Finish) -> None:
        """Run the next rung of an attack's ladder, or, at its end, the adaptive attackers at that budget."""
        study, store = self._job.study, self._job.store
        images = self._job.request["images"]
        clean = _take(store.get(study.clean(record)), images["n"])
        cell = lacking(study, record, spec, images["sha256"], clean, store.load)
        if cell is not None:
            self._submit(cell, record, "images", (record, spec))
            return
        made = strong_enough(study, record, spec, images["sha256"], clean, store.get)
        for _, informed in adaptive(study, record, made.cell):
            if informed.key not in self._begun and store.load(informed) is None:
                self._submit(informed, record, "adaptive_images", None)
            self._begun.add(informed.key)
        advance(f"{record.id}: {describe(made.cell)} is what detectors meet")

    def _submit(self, cell: Cell, record: EnsembleRecord, part: str, tag: object) -> None:
        """Run a cell on some of the study's images."""
        job, executor = self._job, self._executor
        split = self._splits[part]
        clean = _take(job.store.get(job.study.clean(record)), len(split))
        known = f"samples {job.study.clean(record).key}, the first {len(split)}"
        executor.share(known, clean)
        pieces.share_ensembles(executor, job.ensembles, [record.key])
        names = {
            "split": pieces.share_split(executor, split), "clean": known,
            "crafting": job.craftings.share(executor, record.key),
        }  # fmt: skip
        score = f", {cell.params['score']}" if cell.name == ADAPTIVE else ""
        self._session.submit(Piece(
            pieces.attack, {"cell": cell, "run_options": pieces.travelling(job.run_options), **names},
            (pieces.ensemble_name(record.key), *names.values()), float(steps_of(cell) * len(split)),
            f"detection, {record.id}: {describe(cell)}{score}", len(split), tag,
        ))  # fmt: skip


def _warnings(job: Job, pairs: Sequence[tuple[EnsembleRecord, Spec]]) -> Iterator[str]:
    """Yield what the runs that are needed have to say, once each."""
    study, store, images, said = job.study, job.store, job.request["images"], set[str]()
    for record, spec in pairs:
        clean = _take(store.get(study.clean(record)), images["n"])
        seen: list[Run] = []

        def obtain(cell: Cell, seen: list[Run] = seen) -> Run:
            seen.append(run := store.get(cell))
            return run

        made = strong_enough(study, record, spec, images["sha256"], clean, obtain)
        seen += _informed(study, store, record, made).values()
        for warning in (f"{record.id}: {one}" for run in seen for one in run.warnings):
            if warning not in said:
                said.add(warning)
                yield warning


def _part(split: Split, most: int) -> Split:
    return split if len(split) <= most else split.take(most)


def _take(clean: Run, n: int) -> Samples:
    """Return the first of the unperturbed samples."""
    return clean.samples.select(slice(0, n))

"""Calibration: can an ensemble's probabilities be believed, and can they once a temperature is fitted?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from robustkit.base.errors import RunError, UserError
from robustkit.data._split import SEED
from robustkit.metrics import calibration as metric
from robustkit.metrics.calibration import BINS, Floats, Ints
from robustkit.records.cells import Cell, EnsembleRecord
from robustkit.records.schema_suites import Calibration, CalibrationResult, ReliabilityBin
from robustkit.records.store import Store
from robustkit.study.plan import Study
from robustkit.suites import Job, SuiteRequest, suite
from robustkit.suites._scoring import Lacking, score_all

MOST = 5000  # validation samples
VALIDATION: Final = "validation"
HALF: Final = "half"


@suite("calibration", title="Calibration")
class CalibrationSuite:
    """NLL, ECE, Brier score and reliability of the fused output and of each member, before and after a temperature."""

    @staticmethod
    def ask(request: SuiteRequest) -> Mapping[str, Any]:
        """Choose the samples that the temperature is fitted on: unseen in training, and not those it is judged on."""
        if request.data.held_out:
            split = request.data.dataset.split("validation").take(MOST)
            return {"fitted_on": VALIDATION, "sha256": split.sha256(), "n": len(split)}
        if len(request.data.split) < 2:
            raise UserError(
                "calibration fits a temperature on one half of the samples, but there is only 1; evaluate more."
            )
        return {"fitted_on": HALF}

    @staticmethod
    def run(job: Job) -> list[str]:
        """Score the validation samples, where they are needed and the store lacks them."""
        cells = [cell for e in job.study.ensembles if (cell := _cell(job.study, e)) and job.store.load(cell) is None]
        if cells:
            split = job.data.dataset.split("validation").take(MOST)
            if split.sha256() != job.request["sha256"]:
                raise RunError("the validation samples have changed since they were asked for; run it again.")
            score_all(job, "calibration", [Lacking("validation samples", lambda: split, cells)])
        fused = [r for r in CalibrationSuite.results(job.study, job.store) if r["output"] == "ensemble"]
        return [f"{r['ensemble']}: {note}" for r in fused for note in r["notes"]]

    @staticmethod
    def results(study: Study, store: Store) -> list[CalibrationResult]:
        """Return one record for the fused output and for each member of each ensemble."""
        return [result for record in study.ensembles for result in _results(study, store, record)]


def _cell(study: Study, record: EnsembleRecord) -> Cell | None:
    """Return the cell of the validation samples, None where the temperature is fitted on evaluated ones."""
    asked = study.suite_requests["calibration"]
    if asked["fitted_on"] == HALF:
        return None
    return Cell("clean", record.key, asked["sha256"], seed=study.seed, version=study.version)


def _results(study: Study, store: Store, record: EnsembleRecord) -> Iterator[CalibrationResult]:
    evaluated, cell = store.get(study.clean(record)).samples, _cell(study, record)
    if cell is None:
        order = np.random.default_rng(SEED).permutation(len(evaluated.y))
        fitted, measured = (evaluated.select(np.sort(rows)) for rows in np.array_split(order, 2))
    else:
        fitted, measured = store.get(cell).samples, evaluated
    fitted, measured = fitted.whole(), measured.whole()
    lost = int(evaluated.failed.sum())
    common = [f"the output on {lost} samples is not finite; they are left out"] if lost else []
    outputs = {"ensemble": (fitted.fused, measured.fused)}
    for at in range(record.members):
        outputs[f"member-{at}"] = (fitted.member_logits[at], measured.member_logits[at])
    for output, (known, z) in outputs.items():
        empty = CalibrationResult(
            ensemble=record.id, output=output, n=len(measured.y), fitted_on=HALF if cell is None else VALIDATION,
            fitted_n=len(fitted.y), temperature=None, accuracy=None, before=None, after=None, notes=list(common),
        )  # fmt: skip
        yield _measured(empty, known, fitted.y, z, measured.y) if len(fitted.y) and len(measured.y) else empty


def _measured(empty: CalibrationResult, known: Floats, known_y: Ints, z: Floats, y: Ints) -> CalibrationResult:
    temperature = metric.fit_temperature(known, known_y)
    settled = not metric.at_bound(temperature)
    return {
        **empty,
        "temperature": temperature if settled else None,
        "accuracy": float((z.argmax(1) == y).mean()),
        "before": _quality(metric.tempered(z, 1.0), y),
        "after": _quality(metric.tempered(z, temperature), y) if settled else None,
        "notes": [*empty["notes"], *_notes(temperature, known, known_y, y)],
    }


def _quality(log_p: Floats, y: Ints) -> Calibration:
    found = metric.reliability(log_p, y)
    bins = [
        ReliabilityBin(
            low=at / BINS,
            high=(at + 1) / BINS,
            count=int(found.count[at]),
            confidence=float(found.confidence[at]) if found.count[at] else None,
            accuracy=float(found.accuracy[at]) if found.count[at] else None,
        )
        for at in range(BINS)
    ]
    return Calibration(nll=metric.nll(log_p, y), ece=found.ece, brier=metric.brier(log_p, y), bins=bins)


def _notes(temperature: float, known: Floats, known_y: Ints, y: Ints) -> list[str]:
    """Return what a reader must know before the numbers are believed."""
    notes = []
    if len(y) < BINS:
        notes.append(f"{len(y)} samples in {BINS} bins: the calibration error is mostly chance")
    if len(np.unique(y)) == 1:
        notes.append(f"all samples are of one class ({int(y[0])}): nothing is said of the others")
    if metric.at_bound(temperature):
        right = float((known.argmax(1) == known_y).mean())
        notes.append(
            f"no temperature: the {len(known_y)} samples to fit it on are {100 * right:.1f} % right and ask for one "
            f"{'below' if temperature < 1 else 'above'} {temperature:g}, so that they do not determine it"
        )
    return notes

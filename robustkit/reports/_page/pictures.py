"""Which images a report shows, and what is said of them: chosen by a rule, from the store, never by their looks.

For each ensemble, under the strongest run at the budget that is quoted: the first samples that were right and are
broken, and the first that withstood; then the first of these under the same attack at every eps. What a sample says is
plain JSON:

``ensemble``, ``id``, ``label``, ``attack``, ``eps``, ``norm``
    Whose image it is, and which run made it.
``kind``
    ``example``, ``ladder`` (of one image at every eps), ``asked`` (named by ``--examples``).
``outcome``
    ``broken``, ``withstood``, ``wrong`` (without an attack).
``factor``, ``changed``
    How many times larger than it is the perturbation is drawn, and its size in the norm.
``shape``
    ``[C, H, W]`` of the stored image.
``clean``, ``attacked``
    ``[label, confidence]`` of the fused output, then of each member.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from robustkit.base.errors import UserError
from robustkit.base.options import whole_numbers
from robustkit.records import originals
from robustkit.records.cells import Cell, Run
from robustkit.records.outcomes import SampleOutcomes
from robustkit.records.samples import ERROR, NOT_ATTACKED, Samples
from robustkit.records.schema import Evaluation, Results
from robustkit.records.store import Store
from robustkit.reports._checks import runs_of
from robustkit.reports._labels import labeller
from robustkit.reports._page.pixels import as_float, factor_of, perturbation_png, png
from robustkit.reports._sample_arrays import Picture
from robustkit.reports._samples import quoted
from robustkit.study.plan import Study

MOST_ASKED = 1000  # ids at once
EACH = 4  # broken, and withstood: eight an ensemble
EXAMPLE_BYTES, LADDER_BYTES = 2 << 20, 1 << 20  # of PNG files in a page; a third more as text
BROKEN, WITHSTOOD, WRONG = "broken", "withstood", "wrong"
Images = Mapping[int, npt.NDArray[Any]]  # (C, H, W) by id


@dataclass(frozen=True)
class _Attacked:
    """One run with its images: of the samples in ``rows`` both images are there and the attack did not crash."""

    outcomes: SampleOutcomes
    place: int
    evaluation: Evaluation
    label: str
    clean: Samples
    run: Run
    rows: npt.NDArray[np.int64]
    before: Images

    @property
    def outcome(self) -> npt.NDArray[np.str_]:
        """What became of each sample, (N,)."""
        right = np.where(self.outcomes.attacked[self.place] > 0, WITHSTOOD, BROKEN)
        return np.where(self.outcomes.clean > 0, right, WRONG)

    def original(self, row: int) -> npt.NDArray[np.floating[Any]]:
        return as_float(self.before[int(self.outcomes.ids[row])])

    def change(self, row: int) -> npt.NDArray[np.floating[Any]]:
        change: npt.NDArray[np.floating[Any]] = self.run.samples.examples[row] - self.original(row)
        return change


def pictures(
    study: Study, store: Store, results: Results, outcomes: Sequence[SampleOutcomes], asked: Iterable[int] = ()
) -> tuple[list[Picture], list[str], dict[str, int]]:
    """Return the pictures of every ensemble, sentences on those that are missing, and of how many there are images.

    Parameters
    ----------
    asked : iterable of int
        Ids of samples to show besides, whatever became of them.
    """
    images = originals.load(store, study.dataset.sha256, study.version)
    runs: list[_Attacked] = []
    notes: list[str] = []
    for one in outcomes:
        at = quoted(results, one.ensemble)
        found = None if at is None else _attacked(study, store, results, one, at, images)
        if isinstance(found, _Attacked):
            runs.append(found)
        elif found:
            notes.append(found)
    shown = [picture for run in runs for picture in _drawn(run, "asked", _rows_of(run, asked))]
    if lost := set(asked) - {picture.about["id"] for picture in shown}:
        notes.append(
            f"No image of {', '.join(map(str, sorted(lost)))} can be shown: a sample that is wrong without an attack "
            "is not attacked, and of large data sets only the first images are kept."
        )
    examples, sentence = _within(EXAMPLE_BYTES, [_chosen(run) for run in runs])
    notes += sentence
    kept = {run.outcomes.ensemble: int(run.rows.max(initial=-1)) + 1 for run in runs}
    return [*shown, *examples, *_ladders(study, store, results, runs)], notes, kept


def sample_ids(text: str | int | Iterable[int] | None, outcomes: Sequence[SampleOutcomes]) -> tuple[int, ...]:
    """Read ids of samples like ``12,57`` or ``0-9``; a UserError names one that was not evaluated."""
    if text is None:
        return ()
    found = whole_numbers(text, "example", MOST_ASKED)
    known = {id for one in outcomes for id in one.ids.tolist()}
    for id in found:
        if id not in known:
            raise UserError(f"--examples {id} is no sample of this evaluation; samples.csv has the ids of all.")
    return found


def _attacked(
    study: Study, store: Store, results: Results, one: SampleOutcomes, at: int, images: Images
) -> _Attacked | str:
    """Return a run of an ensemble with its images, or a sentence that says why there are none."""
    record = next(record for record in study.ensembles if record.id == one.ensemble)
    run, evaluation = store.load(one.cells[at], examples=True), runs_of(results, one.ensemble)[at]
    label = labeller(results)(evaluation)
    if run is None or not len(run.samples.examples):
        return (
            f"No image of {label} on {one.ensemble} was kept (--no-keep-examples); to see some, evaluate into a new "
            "--out without that option."
        )
    if not images:
        return (
            f"The images that {one.ensemble} was attacked on are not in the store, which an earlier robustkit wrote; "
            "evaluate again to see what was done to them."
        )
    samples, n = run.samples, len(run.samples.examples)
    whole = np.isfinite(samples.examples.reshape(n, -1)).all(1)
    whole &= (samples.status[:n] != ERROR) & (samples.status[:n] != NOT_ATTACKED)
    whole &= np.isin(one.ids[:n], list(images))
    clean = store.get(study.clean(record)).samples
    return _Attacked(one, at, evaluation, label, clean, run, np.flatnonzero(whole), images)


def _chosen(run: _Attacked) -> list[Picture]:
    """Draw the first broken and the first withstood samples in turn, more of one kind where the other has few."""
    kinds = [run.rows[run.outcome[run.rows] == kind] for kind in (BROKEN, WITHSTOOD)]
    few = [min(EACH, len(rows)) for rows in kinds]
    taken = [rows[: EACH + EACH - other] for rows, other in zip(kinds, reversed(few), strict=True)]
    order = sorted((turn, kind, row) for kind, rows in enumerate(taken) for turn, row in enumerate(rows.tolist()))
    return list(_drawn(run, "example", [row for _, _, row in order]))


def _rows_of(run: _Attacked, ids: Iterable[int]) -> list[int]:
    wanted = run.outcomes.ids[run.rows]
    return [int(run.rows[at]) for id in dict.fromkeys(ids) for at in np.flatnonzero(wanted == id)]


def _drawn(run: _Attacked, kind: str, rows: Sequence[int], factor: float = 0.0) -> Iterator[Picture]:
    """Draw some samples of a run, their perturbations with one factor."""
    factor = factor or factor_of(run.change(row) for row in rows)
    e, samples = run.evaluation, run.run.samples
    for row in rows:
        image = run.original(row)
        about = {
            "ensemble": run.outcomes.ensemble, "id": int(run.outcomes.ids[row]), "attack": run.label,
            "label": int(run.outcomes.labels[row]), "eps": e["eps"], "norm": e["norm"], "kind": kind,
            "outcome": str(run.outcome[row]), "factor": factor, "shape": list(image.shape),
            "changed": float(samples.distance(e["norm"], image.size)[row]), "clean": _said(run.clean, row),
            "attacked": _said(samples, row),
        }  # fmt: skip
        yield Picture(about, png(image), perturbation_png(run.change(row), factor), png(samples.examples[row]))


def _said(samples: Samples, row: int) -> list[list[float]]:
    """Return ``[label, confidence]`` of the fused output and of each member; a confidence that is not finite is 0."""
    outputs = [samples.fused[row], *samples.member_logits[:, row]]
    found = []
    for output in outputs:
        top = int(output.argmax())
        share = np.exp(output[top] - np.logaddexp.reduce(output.astype(np.float64)))
        found.append([top, float(np.nan_to_num(share))])
    return found


def _within(most: int, each: Sequence[Sequence[Picture]]) -> tuple[list[Picture], list[str]]:
    """Take pictures in turns, one of each ensemble, until the next is too much; say so where some are left out."""
    depth = max(map(len, each), default=0)
    turns = [own[turn] for turn in range(depth) for own in each if turn < len(own)]
    taken: list[Picture] = []
    for picture in turns:
        if sum(one.size for one in taken) + picture.size > most:
            return taken, [
                f"{len(taken)} of {len(turns)} examples are shown: images of {_pixels(picture)} would make this page "
                f"too large (more than {most >> 20} MB of them)."
            ]
        taken.append(picture)
    return taken, []


def _pixels(picture: Picture) -> str:
    return f"{picture.about['shape'][2]} x {picture.about['shape'][1]} pixels"


def _ladders(study: Study, store: Store, results: Results, runs: Sequence[_Attacked]) -> Iterator[Picture]:
    """Draw of each ensemble one image under the same attack at every eps, as far as there is room."""
    left = LADDER_BYTES
    for run in runs:
        first = [row for kind in (BROKEN, WITHSTOOD) for row in run.rows[run.outcome[run.rows] == kind][:1].tolist()]
        steps = [at for at, cell in enumerate(run.outcomes.cells) if _same(cell, run.run.cell)]
        if not first or len(steps) < 2:
            continue
        found = [_attacked(study, store, results, run.outcomes, at, run.before) for at in steps]
        whole = [one for one in found if isinstance(one, _Attacked) and first[0] in one.rows]
        factor = factor_of(one.change(first[0]) for one in whole)
        drawn = [picture for one in whole for picture in _drawn(one, "ladder", first[:1], factor)]
        left -= sum(picture.size for picture in drawn)
        if left < 0:
            return
        yield from sorted(drawn, key=lambda picture: picture.about["eps"])


def _same(cell: Cell, other: Cell) -> bool:
    """Return whether two cells are of one attack with one budget each."""
    alike = ("name", "params", "norm", "target", "backend", "seed", "eot")
    return cell.eps is not None and all(getattr(cell, name) == getattr(other, name) for name in alike)

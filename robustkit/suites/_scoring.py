"""Scores images of a suite's own with every ensemble that the store has no record of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from robustkit.data import Split
from robustkit.evaluation import pieces
from robustkit.evaluation.executors import Executor, Piece
from robustkit.records.cells import Cell
from robustkit.suites import Job

AHEAD = 2  # sets of images that are in memory at a time


@dataclass(frozen=True)
class Lacking:
    """Images and the cells that the store lacks of them; ``load`` reads the images when their turn has come."""

    name: str
    load: Callable[[], Split]
    cells: Sequence[Cell]


def score_all(job: Job, title: str, sets: Sequence[Lacking]) -> None:
    """Score the images of each set, without an attack, and store what is seen."""
    ids = {record.key: record.id for record in job.study.ensembles}
    executor, todo = pieces.executor_of(job.run_options), [one for one in sets if one.cells]
    total = sum(len(one.cells) for one in todo)
    if not todo:
        return
    with (
        job.reporter.pieces(title, total) as advance,
        executor.session(total, job.reporter) as session,
    ):
        waiting, open_cells, split_names = iter(todo), dict[str, int](), dict[str, str]()

        def submit_next() -> None:
            for one in waiting:
                split = one.load()
                split_names[one.name], open_cells[one.name] = pieces.share_split(executor, split), len(one.cells)
                for cell in one.cells:
                    label = f"{ids[cell.ensemble]}: {one.name}"
                    session.submit(_piece(job, executor, cell, split_names[one.name], label, len(split), one.name))
                return

        for _ in range(AHEAD):
            submit_next()
        for done in pieces.given(session):
            job.store.save(run := pieces.placed(done.value, done))
            advance(pieces.told(done, run.seconds))
            open_cells[done.piece.tag] -= 1
            if not open_cells[done.piece.tag]:
                executor.drop(split_names[done.piece.tag])
                submit_next()


def _piece(job: Job, executor: Executor, cell: Cell, split: str, label: str, steps: int, tag: str) -> Piece:
    pieces.share_ensembles(executor, job.ensembles, [cell.ensemble])
    arguments = {"cell": cell, "split": split, "run_options": pieces.travelling(job.run_options)}
    return Piece(
        pieces.attack, arguments, (pieces.ensemble_name(cell.ensemble), split), label=label, steps=steps, tag=tag
    )  # fmt: skip

"""Runs a plan on this machine, several cells side by side, and skips what the store has."""

from __future__ import annotations

from collections.abc import Mapping

from robustkit.data import Split
from robustkit.ensemble import Ensemble
from robustkit.evaluator import Setting, run_cell
from robustkit.fastpath import crafting_copy
from robustkit.parallel import run_all
from robustkit.progress import Reporter
from robustkit.records import Cell, Samples
from robustkit.store import Store
from robustkit.study import Study


def execute(
    study: Study,
    ensembles: Mapping[str, Ensemble],
    split: Split,
    store: Store,
    setting: Setting,
    reporter: Reporter,
    workers: int = 1,
) -> list[str]:
    """Run every cell of the study that the store has not; return the distinct warnings of all of them.

    Parameters
    ----------
    ensembles : mapping of str to Ensemble
        By the key that the study's ensemble records carry.
    workers : int
        Cells that run side by side.
    """
    cells = list(study.cells())
    ids = {record.key: record.id for record in study.ensembles}
    clean: dict[str, Samples] = {}
    _, first, _ = split.batch(range(min(len(split), 64)))
    copies = {}
    for key, ensemble in ensembles.items():
        copies[key], kept = crafting_copy(ensemble, first.to(setting.device))
        if kept:
            reporter.say(f"[dim]{ids[key]}: attacked without folded batch norm ({kept}).[/dim]")
    with reporter.task("evaluating", len(cells)) as done:

        def finish(cell: Cell) -> tuple[bool, list[str]]:
            """Return whether the cell was stored already, and its warnings."""
            run = store.load(cell)
            stored = run is not None
            if run is None:
                label = f"{ids[cell.ensemble]}: {describe(cell)}"
                with reporter.task(label, len(split)) as advance:
                    run = run_cell(
                        cell,
                        ensembles[cell.ensemble],
                        split,
                        clean.get(cell.ensemble),
                        setting,
                        advance,
                        copies[cell.ensemble],
                    )
                store.save(run)
            if cell.kind == "clean":
                clean[cell.ensemble] = run.samples
            done(1)
            return stored, [f"{ids[cell.ensemble]}: {w}" for w in run.warnings]

        outcomes = [
            outcome
            for first in (True, False)  # the attacks need the clean predictions
            for outcome in run_all(finish, [c for c in cells if (c.kind == "clean") == first], workers)
        ]
    reused = sum(stored for stored, _ in outcomes)
    if reused:
        reporter.say(f"[dim]{reused} of {len(cells)} cells were in the store already.[/dim]")
    return list(dict.fromkeys(warning for _, warnings in outcomes for warning in warnings))


def describe(cell: Cell) -> str:
    """Return a few words for a person who watches: ``pgd, eps 0.1``."""
    if cell.attack is None:
        return "clean images"
    words = [cell.attack.name, f"eps {cell.eps:.4g}" if cell.eps is not None else cell.norm]
    if "steps" in cell.attack.params:
        words.insert(1, f"{cell.attack.params['steps']} steps")
    return ", ".join(
        words + ["targeted"] * cell.targeted + ([f"from {cell.source}"] if cell.kind == "transfer" else [])
    )

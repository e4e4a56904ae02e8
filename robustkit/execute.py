"""Runs a plan cell by cell, on this machine, and skips what the store has."""

from __future__ import annotations

from collections.abc import Mapping

from robustkit.data import Split
from robustkit.ensemble import Ensemble
from robustkit.evaluator import Setting, run_cell
from robustkit.progress import Reporter
from robustkit.records import Cell, Samples
from robustkit.store import Store
from robustkit.study import Study


def execute(
    study: Study, ensembles: Mapping[str, Ensemble], split: Split, store: Store, setting: Setting, reporter: Reporter
) -> list[str]:
    """Run every cell of the study that the store has not; return the distinct warnings of all of them.

    Parameters
    ----------
    ensembles : mapping of str to Ensemble
        By the key that the study's ensemble records carry.
    """
    cells = list(study.cells())
    ids = {record.key: record.id for record in study.ensembles}
    warnings: dict[str, None] = {}
    reused = 0
    clean: dict[str, Samples] = {}
    with reporter.task("evaluating", len(cells)) as done:
        for cell in cells:
            run = store.load(cell)
            if run is None:
                label = f"{ids[cell.ensemble]}: {describe(cell)}"
                with reporter.task(label, len(split)) as advance:
                    run = run_cell(cell, ensembles[cell.ensemble], split, clean.get(cell.ensemble), setting, advance)
                store.save(run)
            else:
                reused += 1
            if cell.kind == "clean":
                clean[cell.ensemble] = run.samples
            warnings.update(dict.fromkeys(f"{ids[cell.ensemble]}: {w}" for w in run.warnings))
            done(1)
    if reused:
        reporter.say(f"[dim]{reused} of {len(cells)} cells were in the store already.[/dim]")
    return list(warnings)


def describe(cell: Cell) -> str:
    """Return a few words for a person who watches: ``pgd, eps 0.1``."""
    if cell.attack is None:
        return "clean images"
    words = [cell.attack.name, f"eps {cell.attack.params['eps']:.4g}"]
    if "steps" in cell.attack.params:
        words.insert(1, f"{cell.attack.params['steps']} steps")
    return ", ".join(
        words + ["targeted"] * cell.targeted + ([f"from {cell.source}"] if cell.kind == "transfer" else [])
    )

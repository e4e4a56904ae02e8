"""Runs a plan on this machine, several cells side by side, and skips what the store has."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

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
    ids = {record.key: record.id for record in study.ensembles}
    cells = list(study.cells())
    copies = _Copies(ensembles, ids, split, setting, reporter)
    clean: dict[str, Samples] = {}
    with reporter.task("evaluating", len(cells)) as done:

        def finish(chain: Sequence[Cell]) -> list[tuple[bool, list[str]]]:
            """Return for each cell whether it was stored already, and its warnings."""
            outcomes = []
            lower: Cell | None = None
            for cell in chain:
                run = store.load(cell)
                outcome = run is not None
                if run is None:
                    before = store.load(lower, examples=True) if lower else None
                    with reporter.task(f"{ids[cell.ensemble]}: {describe(cell)}", len(split)) as advance:
                        run = run_cell(
                            cell, ensembles[cell.ensemble], split, clean.get(cell.ensemble), setting, advance,
                            copies.of(cell), before.samples if before else None,
                        )  # fmt: skip
                    store.save(run)
                if cell.kind == "clean":
                    clean[cell.ensemble] = run.samples
                done(1)
                outcomes.append((outcome, [f"{ids[cell.ensemble]}: {w}" for w in run.warnings]))
                lower = cell
            return outcomes

        first = [[study.clean(record)] for record in study.ensembles]  # the attacks need the clean predictions
        outcomes = [o for chains in (first, study.chains()) for part in run_all(finish, chains, workers) for o in part]
    reused = sum(stored for stored, _ in outcomes)
    if reused:
        reporter.say(f"[dim]{reused} of {len(cells)} cells were in the store already.[/dim]")
    return list(dict.fromkeys(warning for _, warnings in outcomes for warning in warnings))


class _Copies:
    """What the attacks are shown of each ensemble, made when the first attack needs it."""

    def __init__(
        self, ensembles: Mapping[str, Ensemble], ids: Mapping[str, str], split: Split, setting: Setting,
        reporter: Reporter,
    ) -> None:  # fmt: skip
        self._ensembles, self._ids, self._reporter, self._setting = ensembles, ids, reporter, setting
        self._split = split
        self._made: dict[str, Ensemble] = {}
        self._lock = threading.Lock()

    def of(self, cell: Cell) -> Ensemble | None:
        """Return the copy for a cell, None if nothing is attacked; say so where it is not the faster one."""
        if cell.attack is None:
            return None
        with self._lock:
            if cell.ensemble not in self._made:
                _, x, _ = self._split.batch(range(min(len(self._split), 64)))
                made, kept = crafting_copy(self._ensembles[cell.ensemble], x.to(self._setting.device))
                if kept:
                    name = self._ids[cell.ensemble]
                    self._reporter.say(f"[dim]{name}: attacked without folded batch norm ({kept}).[/dim]")
                self._made[cell.ensemble] = made
            return self._made[cell.ensemble]


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

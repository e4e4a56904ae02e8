"""Runs a plan on this machine, several cells side by side, and skips what the store has."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from robustkit.base.files import write_json
from robustkit.base.lines import spoken
from robustkit.base.parallel import run_all
from robustkit.base.paths import cache_dir
from robustkit.base.progress import Reporter
from robustkit.data import Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.ensembles.fastpath import Crafting, prepare
from robustkit.evaluation.cell import RunOptions, environment, run_cell
from robustkit.records.cells import Cell, Run, digest
from robustkit.records.samples import Samples
from robustkit.records.store import Store
from robustkit.study.plan import Study


def execute(
    study: Study,
    ensembles: Mapping[str, Ensemble],
    split: Split,
    store: Store,
    run_options: RunOptions,
    reporter: Reporter,
    craftings: Craftings,
) -> list[str]:
    """Run every cell of the study that the store has not; return the distinct warnings of all of them.

    Chains of cells run side by side, ``run_options.workers`` of them, and where there are fewer, batches of a cell.

    Parameters
    ----------
    ensembles : mapping of str to Ensemble
        By the key that the study's records of ensembles and surrogates carry.
    """
    everyone = (*study.ensembles, *study.surrogates)
    ids = {record.key: record.id for record in everyone}
    chains = study.chains()
    first = [[study.clean(record)] for record in everyone]  # the attacks need the clean predictions
    total = len(first) + sum(map(len, chains))
    open_chains = sum(not all(store.has_file(cell) for cell in chain) for chain in chains)
    inner = replace(run_options, workers=max(1, run_options.workers // max(1, open_chains)))
    clean: dict[str, Samples] = {}
    costs = {cell.key: _cost(cell) for chain in (*first, *chains) for cell in chain if not store.has_file(cell)}

    def run(cell: Cell, lower: Cell | None) -> Run:
        before = store.load(lower, examples=True) if lower else None
        with reporter.task(f"{ids[cell.ensemble]}: {describe(cell)}", len(split)) as advance:
            made = run_cell(
                cell, ensembles[cell.ensemble], split, clean.get(cell.ensemble), inner, advance,
                craftings.of(cell.attacked) if cell.attack else None,
                before.samples if before else None,
            )  # fmt: skip
        store.save(made)
        return made

    with reporter.pieces("evaluating", total, sum(costs.values())) as done:

        def finish(chain: Sequence[Cell]) -> list[tuple[bool, list[str]]]:
            """Return for each cell whether it was stored already, and its warnings."""
            outcomes = []
            lower = None
            for cell in chain:
                stored = store.load(cell)
                finished = stored or run(cell, lower)
                if cell.kind == "clean":
                    clean[cell.ensemble] = finished.samples
                outcomes.append((stored is not None, [f"{ids[cell.ensemble]}: {w}" for w in finished.warnings]))
                lower = cell
                name = f"{ids[cell.ensemble]}: {describe(cell)}, {spoken(finished.seconds)}"
                done("" if stored else name, costs.get(cell.key, 0.0))
            return outcomes

        outcomes = [
            o for part in (first, chains) for chain in run_all(finish, part, run_options.workers) for o in chain
        ]
    reused = sum(stored for stored, _ in outcomes)
    if reused and not study.follow_ups:  # what follows on a doubt goes over the same store again
        reporter.say(f"[dim]{reused} of {total} cells were in the store already.[/dim]")
    return list(dict.fromkeys(warning for _, warnings in outcomes for warning in warnings))


class Craftings:
    """What the attacks are shown of each ensemble, prepared when the first attack needs it."""

    def __init__(
        self, study: Study, ensembles: Mapping[str, Ensemble], split: Split, run_options: RunOptions, reporter: Reporter
    ) -> None:
        self._ensembles = ensembles
        self._ids = {record.key: record.id for record in (*study.ensembles, *study.surrogates)}
        self._version, self._setting = study.version, run_options
        self._split, self._reporter = split, reporter
        self._made: dict[str, Crafting] = {}
        self._lock = threading.Lock()

    def of(self, key: str) -> Crafting:
        """Return what is attacked of the ensemble with a key; say which members could not be made faster."""
        with self._lock:
            if key not in self._made:
                _, x, _ = self._split.batch(range(min(len(self._split), 64)))
                made = self._prepare(key, x.to(self._setting.device))
                if made.kept:
                    name = self._ids[key]
                    self._reporter.say(f"[dim]{name}: attacked without folded batch norm ({made.kept}).[/dim]")
                self._made[key] = made
            return self._made[key]

    def _prepare(self, key: str, x: Tensor) -> Crafting:
        """Choose by a trial, once on a machine: the same command must give the same numbers tomorrow."""
        speed, device = self._setting.speed, self._setting.device
        machine = {k: v for k, v in environment(device).items() if k != "threads"}
        name = digest({"ensemble": key, "version": self._version, "speed": speed, **machine})
        path = cache_dir() / "fastpath" / f"{name}.json"
        try:
            chosen = str(json.loads(path.read_text("utf-8"))["chosen"])
        except (OSError, ValueError, KeyError, TypeError):
            chosen = ""
        made = prepare(self._ensembles[key], x, speed, chosen)
        if made.chosen != chosen:
            with contextlib.suppress(OSError):  # a cache that cannot be written to costs a trial, not the work
                write_json(path, {"chosen": made.chosen})
        return made


def _cost(cell: Cell) -> float:
    """Return about how many passes of the model a cell takes for each sample, to tell how much is left by."""
    params = cell.params
    walk = float(params.get("steps", 0)) * float(params.get("restarts", 1)) * 3  # a backward pass is as long as two
    return 1.0 + (walk + float(params.get("queries", 0))) * cell.eot


def describe(cell: Cell) -> str:
    """Return a few words for a person who watches: ``pgd, eps 0.1``."""
    if cell.attack is None:
        return "clean images"
    words = [cell.attack.name, f"eps {cell.eps:.4g}" if cell.eps is not None else cell.norm]
    if "steps" in cell.attack.params:
        words.insert(1, f"{cell.attack.params['steps']} steps")
    if cell.eot > 1:
        words.append(f"eot {cell.eot}")
    source = cell.source if cell.attacked == cell.ensemble else "a surrogate"
    return ", ".join(
        [*filter(None, words)] + ["targeted"] * cell.targeted + ([f"from {source}"] if cell.kind == "transfer" else [])
    )

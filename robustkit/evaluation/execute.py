"""Runs a plan, several cells side by side on whichever executor, and skips what the store has."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from torch import Tensor

from robustkit.base.devices import machine
from robustkit.base.files import write_json
from robustkit.base.paths import cache_dir
from robustkit.base.progress import Reporter
from robustkit.data import Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.ensembles.fastpath import Crafting, prepare
from robustkit.evaluation import pieces
from robustkit.evaluation.cell import RunOptions, environment
from robustkit.evaluation.executors import Done, Executor, Piece, Recipe
from robustkit.records.cells import LENGTHS, Cell, Run, counted, digest
from robustkit.records.samples import Samples
from robustkit.records.store import Store
from robustkit.study.plan import Study

_Rest = tuple[Sequence[Cell], bool, Samples | None]


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

    Chains of cells run side by side, and where there are fewer than workers, batches of a cell. Each cell is stored
    once it is done. One whose worker died in every try is stored as failed, and the same command tries it again.

    Parameters
    ----------
    ensembles : mapping of str to Ensemble
        By the key that the study's records of ensembles and surrogates carry.
    """
    everyone = (*study.ensembles, *study.surrogates)
    first = [[study.clean(record)] for record in everyone]  # the attacks need the clean predictions
    chains = study.chains()
    total = sum(map(len, (*first, *chains)))
    costs = {cell.key: _cost(cell) for chain in (*first, *chains) for cell in chain if not store.has_file(cell)}
    with reporter.pieces("evaluating", total, sum(costs.values())) as done:

        def finish(cell: Cell, name: str = "") -> None:
            done(name, costs.get(cell.key, 0.0))

        running = _Running(study, ensembles, split, store, run_options, reporter, craftings, finish)
        attacked = dict.fromkeys(cell.attacked for chain in chains for cell in chain if cell.key in costs)
        with running.meanwhile(attacked):
            running.run(first)
        running.run(chains)
    return running.warnings()


class _Running:
    """Chains of cells on an executor: what is stored, what comes next, what is to be said."""

    def __init__(
        self, study: Study, ensembles: Mapping[str, Ensemble], split: Split, store: Store, run_options: RunOptions,
        reporter: Reporter, craftings: Craftings, finish: Callable[..., None],
    ) -> None:  # fmt: skip
        self._study, self._ensembles, self._store, self._reporter = study, ensembles, store, reporter
        everyone = (*study.ensembles, *study.surrogates)
        self._ids = {record.key: record.id for record in everyone}
        self._clean_name = {record.key: f"samples {study.clean(record).key}" for record in everyone}
        self._options, self._craftings, self._finish_bar = run_options, craftings, finish
        self._executor = pieces.executor_of(run_options)
        self._split, self._images = pieces.share_split(self._executor, split), len(split)
        self._clean: dict[str, Samples] = {}
        self._said: dict[str, list[str]] = {}  # warnings by the key of their cell
        self._order: list[str] = []
        self._reused = 0

    @contextlib.contextmanager
    def meanwhile(self, attacked: Collection[str]) -> Iterator[None]:
        """Prepare what the attacks on some ensembles are shown, while work goes on elsewhere.

        Work in this process would disturb the trial by the clock; there it is prepared with the first attack.
        """
        if not self._executor.remote:
            yield
            return
        # The trial hooks members while it looks at them: what is packed meanwhile would hold the hooks.
        pieces.share_ensembles(self._executor, self._ensembles, attacked)
        pool = ThreadPoolExecutor(1, "craftings")
        prepared = pool.map(self._craftings.of, attacked)
        try:
            yield
            list(prepared)  # what one raised
        finally:
            pool.shutdown(cancel_futures=True)

    def run(self, chains: Sequence[Sequence[Cell]]) -> None:
        """Run what the store lacks of some chains."""
        self._order += [cell.key for chain in chains for cell in chain]
        left = [rest for chain in chains if (rest := self._rest(chain))]
        with self._executor.session(len(left), self._reporter) as session:
            for rest in left:
                session.submit(self._piece(*rest))
            for done in session.finished():
                cells, again = done.piece.tag
                run = self._finish(cells[0], done)
                if rest := self._rest(cells[1:], again, run):
                    session.submit(self._piece(*rest))

    def _rest(self, chain: Sequence[Cell], again: bool = False, before: Run | None = None) -> _Rest | None:
        """Return what the store lacks of a chain, the first of which takes over from ``before``.

        What followed on a cell that failed is not what it would have been: with ``again`` it is made anew.
        """
        for at, cell in enumerate(chain):
            stored = self._store.load(cell)
            again = again or (stored is not None and "failed" in stored.environment)
            if stored is None or again:
                if before is None and cell.after:
                    before = self._store.load(chain[at - 1], examples=True)
                return chain[at:], again, before.samples if before else None
            self._reused, before = self._reused + 1, None
            self._note(stored)
            self._finish_bar(cell)
        return None

    def _piece(self, cells: Sequence[Cell], again: bool, lower: Samples | None) -> Piece:
        """Return the piece that runs the first of some cells; its cost is that of all of them."""
        cell, share = cells[0], self._executor.share
        pieces.share_ensembles(self._executor, self._ensembles, {cell.ensemble, cell.attacked})
        names = {"split": self._split}
        if cell.attack:
            names["crafting"] = self._craftings.share(self._executor, cell.attacked)
            names["clean"] = self._clean_name[cell.ensemble]
            share(names["clean"], self._clean[cell.ensemble])
        if lower is not None:
            names["lower"] = f"samples {cell.after}"
            share(names["lower"], lower)
        return Piece(
            pieces.attack, {"cell": cell, "run_options": pieces.travelling(self._options), **names},
            (pieces.ensemble_name(cell.ensemble), *names.values()), sum(map(_cost, cells)),
            f"{self._ids[cell.ensemble]}: {describe(cell)}", self._images, (cells, again),
        )  # fmt: skip

    def _finish(self, cell: Cell, done: Done) -> Run:
        """Store what a piece gave."""
        if done.lost and cell.kind != "clean":
            run = pieces.lost_cell(cell, self._clean[cell.ensemble], done.lost, done.where)
        else:
            run = pieces.placed(done.result(), done)
        self._store.save(run)
        if cell.after:
            self._executor.drop(f"samples {cell.after}")
        self._note(run)
        self._finish_bar(cell, pieces.told(done, run.seconds))
        return run

    def _note(self, run: Run) -> None:
        """Keep what later cells, or a person, should know of a run."""
        if run.cell.kind == "clean":
            self._clean[run.cell.ensemble] = run.samples
        self._said[run.cell.key] = [f"{self._ids[run.cell.ensemble]}: {warning}" for warning in run.warnings]

    def warnings(self) -> list[str]:
        """Return the distinct warnings in the order of the plan; say how many cells were there already."""
        total = len(self._order)
        if self._reused and not self._study.follow_ups:  # what follows on a doubt goes over the same store again
            self._reporter.say(f"[dim]{self._reused} of {total} cells were in the store already.[/dim]")
        return list(dict.fromkeys(warning for key in self._order for warning in self._said[key]))


class Craftings:
    """What the attacks are shown of each ensemble, prepared when the first attack needs it."""

    def __init__(
        self, study: Study, ensembles: Mapping[str, Ensemble], split: Split, run_options: RunOptions, reporter: Reporter
    ) -> None:
        self._ensembles = ensembles
        self._ids = {record.key: record.id for record in (*study.ensembles, *study.surrogates)}
        self._version, self._setting = study.version, run_options
        self._reporter = reporter
        self._together = min(run_options.batch(split.shape), len(split))
        self._few = split.take(pieces.TRIED)  # one object: it reads its images, and names itself, once
        self._made: dict[str, Crafting] = {}
        self._lock = threading.Lock()

    def of(self, key: str) -> Crafting:
        """Return what is attacked of the ensemble with a key; say which members could not be made faster."""
        with self._lock:
            if key not in self._made:
                _, x, _ = self._few.batch(range(len(self._few)))
                made = self._prepare(key, x.to(self._setting.device))
                if made.kept:
                    name = self._ids[key]
                    self._reporter.say(f"[dim]{name}: attacked without folded batch norm ({made.kept}).[/dim]")
                if made.launched:
                    name = self._ids[key]
                    self._reporter.say(f"[dim]{name}: passes are launched one by one ({made.launched}).[/dim]")
                self._made[key] = made
            return self._made[key]

    def share(self, executor: Executor, key: str) -> str:
        """Share what is attacked of an ensemble that is shared already; return its name."""
        chosen = self.of(key)
        images = pieces.share_split(executor, self._few)
        name, needs = f"crafting {key}, {chosen.chosen}", {"ensemble": pieces.ensemble_name(key), "images": images}
        asked = {**needs, "speed": self._setting.speed, "chosen": chosen.chosen}
        executor.share(name, chosen, Recipe(pieces.make_crafting, asked, tuple(needs.values())))
        return name

    def _prepare(self, key: str, x: Tensor) -> Crafting:
        """Choose by a trial, once on a machine: the same command must give the same numbers tomorrow."""
        speed, device = self._setting.speed, self._setting.device
        of = {k: v for k, v in environment(device).items() if k != "threads"} | {"device": machine(device)}
        name = digest({"ensemble": key, "version": self._version, "speed": speed, **of})
        path = cache_dir() / "fastpath" / f"{name}.json"
        try:
            chosen = str(json.loads(path.read_text("utf-8"))["chosen"])
        except (OSError, ValueError, KeyError, TypeError):
            chosen = ""
        made = prepare(self._ensembles[key], x, speed, chosen, self._together)
        if made.chosen != chosen and made.lasting:
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
    words[1:1] = counted(cell.attack.params, LENGTHS, 0)
    if cell.eot > 1:
        words.append(f"eot {cell.eot}")
    source = cell.source if cell.attacked == cell.ensemble else "a surrogate"
    return ", ".join(
        [*filter(None, words)] + ["targeted"] * cell.targeted + ([f"from {source}"] if cell.kind == "transfer" else [])
    )

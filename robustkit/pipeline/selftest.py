"""Does the verdict see what is wrong? Every planted fault is evaluated like any other model, and two sound ones."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import rich.box
from rich.table import Table

from robustkit.attacks import spec
from robustkit.base.parallel import run_all
from robustkit.base.progress import Reporter
from robustkit.base.version import __version__
from robustkit.data import Dataset
from robustkit.ensembles.ensemble import Ensemble
from robustkit.evaluation.cell import RunOptions
from robustkit.pipeline.results import build
from robustkit.pipeline.run import run_evaluation
from robustkit.records.cells import DatasetRecord, EnsembleRecord, Spec, digest
from robustkit.records.store import Store
from robustkit.study.plan import Study
from robustkit.trust._faults import Fault, faults, registered

SAMPLES = 128  # max-fusion hides one sample in twenty
# What a sound model is attacked with: cross-entropy and margin losses, and no gradient at all.
PROPER: tuple[tuple[str, dict[str, Any]], ...] = (
    ("pgd", {"steps": 200, "restarts": 5}), ("apgd-dlr", {"steps": 100}), ("square", {"queries": 2000}),
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What was said of one planted fault, or, with ``caught_by`` empty, of a sound model.

    ``failed`` are the checks that failed; ``right`` says whether the right one did, or, of a sound model, none.
    """

    name: str
    what: str
    caught_by: str
    verdict: str
    failed: tuple[str, ...]
    robust_accuracy: float

    @property
    def right(self) -> bool:
        """Whether the verdict is what it has to be."""
        return self.caught_by in self.failed if self.caught_by else self.verdict == "trusted"

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as plain JSON."""
        return {**asdict(self), "failed": list(self.failed), "right": self.right}


def run(
    plain: Ensemble,
    loaded: Dataset,
    run_options: RunOptions,
    reporter: Reporter,
    *,
    sound: Mapping[str, Ensemble] | None = None,
    only: Sequence[str] = (),
    eps: float | None = None,
    n: int = SAMPLES,
    seed: int = 0,
    trust: str = "full",
) -> list[Outcome]:
    """Evaluate the planted faults, made of a plain ensemble, and the sound models; return what was said of each.

    Parameters
    ----------
    sound : mapping of str to Ensemble
        Models with nothing wrong, beside the plain one itself: a verdict that is never "trusted" is worth nothing.
    only : sequence of str
        Names of faults and of sound models to evaluate; empty: all.
    eps : float or None
        The budget; None: that of the dataset's transfer matrices.
    trust : {"quick", "full"}
        What the checks may cost, as for :func:`robustkit.evaluate`.
    """
    budget = loaded.threat.transfer_eps if eps is None else eps
    healthy = [
        Fault(f"sound: {name}", "nothing is wrong", "", lambda _, kept=kept: kept, PROPER)  # type: ignore[misc]
        for name, kept in {"plain": plain, **(sound or {})}.items()
    ]
    cases = [case for case in (*faults(), *healthy) if not only or case.name in only]
    inner = replace(run_options, workers=max(1, run_options.workers // max(1, len(cases))))

    def one(case: Fault) -> Outcome:
        outcome = _outcome(case, plain, loaded, inner, reporter, budget, n, seed, trust)
        done(1)
        return outcome

    with registered(), reporter.task("self-test", len(cases)) as done:
        return run_all(one, cases, run_options.workers)


def table(outcomes: Sequence[Outcome]) -> Table:
    """Return the outcomes as a table for a terminal; the JSON says more of each."""
    rows = Table(title="Self-test of the verdicts", title_justify="left", box=rich.box.SIMPLE_HEAD, show_edge=False)
    for column in ("model or attack", "must be caught by", "", "verdict", "robust %"):
        rows.add_column(column, no_wrap=True)
    for o in outcomes:
        said = ("[green]caught[/]" if o.caught_by else "[green]trusted[/]") if o.right else "[bold red]missed[/]"
        rows.add_row(o.name, o.caught_by or "nothing", said, o.verdict, f"{100 * o.robust_accuracy:.1f}")
    return rows


def _outcome(
    case: Fault, plain: Ensemble, loaded: Dataset, run_options: RunOptions, reporter: Reporter, eps: float, n: int,
    seed: int, trust: str,
) -> Outcome:  # fmt: skip
    ensemble = case.plant(plain).to(run_options.device).eval()
    split = loaded.split("test").take(n)
    key = digest({"weights": ensemble.fingerprint(), "fusion": ensemble.fusion, "fault": case.name})
    record = EnsembleRecord(case.name, key, "planted", {}, ("planted",), len(ensemble), ensemble.fusion, "")
    study = Study(
        ensembles=(record,), attacks=tuple(_configured(name, given, eps) for name, given in case.attacks), eps=(eps,),
        dataset=DatasetRecord(loaded.name, "test", len(split), loaded.classes, split.sha256(), loaded.shape),
        norm=loaded.threat.norm, transfer_eps=eps, suites=("attacks",), reference=False, trust=trust, seed=seed,
        version=__version__,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        quiet = Reporter() if case.caught_by else reporter  # a planted fault's warnings are no news
        results = build(run_evaluation(study, {key: ensemble}, split, store, run_options, quiet), store)
    number = results["worst_case"][0] if len(case.attacks) > 1 else results["evaluations"][0]
    failed = tuple(check["name"] for check in number["checks"] if not check["passed"])
    return Outcome(case.name, case.what, case.caught_by, number["verdict"], failed, number["robust_accuracy"])


def _configured(name: str, given: Mapping[str, Any], eps: float) -> Spec:
    """Return an attack with its whole configuration; PGD walks five times the budget, at most."""
    settled = {"step_size": eps / max(10, given.get("steps", 0) // 5)} if name == "pgd" else {}
    return spec(name, **settled, **given)

"""``samples.csv``: a row for each ensemble and sample, what broke it and at which eps, for pandas, R and people."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robustkit.records.outcomes import SampleOutcomes
from robustkit.records.schema import Evaluation, Results
from robustkit.records.schema_run import SamplesFile
from robustkit.reports._checks import headline_budget, runs_of, strongest
from robustkit.reports._files import write_text
from robustkit.reports._labels import Run, budget, budget_text, labeller

FILE = "samples.csv"
CLEAN = "clean"  # what broke a sample that is wrong without any attack
UNBROKEN, AT_ONCE = -1, -2  # in the place of a run that broke a sample: none did, or it is wrong without any


def write_samples(results: Results, outcomes: Sequence[SampleOutcomes], out: Path) -> SamplesFile:
    """Write the table below ``out``, and return what ``results.json`` says of it."""
    text = samples_csv(results, outcomes)
    write_text(out / FILE, text)
    rows = sum(len(one.ids) for one in outcomes)
    return SamplesFile(file=FILE, sha256=hashlib.sha256(text.encode()).hexdigest(), rows=rows)


def samples_csv(results: Results, outcomes: Sequence[SampleOutcomes]) -> str:
    """Return the table as CSV; an attack that an ensemble did not meet leaves its cells empty.

    Columns: ``ensemble``, ``id``, ``label``, ``clean_prediction``, ``clean_broken``; for each norm
    ``smallest_eps_NORM`` and ``broken_by_NORM``; of several norms ``robust_to_all``, 1 where nothing broke it at the
    largest budgets that go together; for each attack and budget ``broken LABEL @ EPS``; and where the
    answers are known ``clean_votes``, ``strongest_attack``, ``strongest_prediction`` and ``strongest_votes``. Broken is
    1 or 0, and where answers are drawn how likely a wrong one is; 1 - its mean is the robust accuracy of
    ``results.json``. Votes are the labels that the members say, in their order.
    """
    label = labeller(results)
    norms = sorted({e["norm"] for e in results["evaluations"]})
    columns = ["ensemble", "id", "label", "clean_prediction", "clean_broken"]
    columns += [column for norm in norms for column in (f"smallest_eps_{norm}", f"broken_by_{norm}")]
    columns += ["robust_to_all"] if results.get("union") else []
    tables = [_table(one, runs_of(results, one.ensemble), norms, label) for one in outcomes]
    columns += dict.fromkeys(name for table in tables for name in table if name.startswith("broken "))
    votes = [_votes(results, one, label) for one in outcomes]
    columns += dict.fromkeys(name for table in votes for name in table)
    lines = [",".join(map(_cell, columns))]
    united = {u["ensemble"]: u["budgets"] for u in results.get("union", ())}
    for one, table, more in zip(outcomes, tables, votes, strict=True):
        empty = [""] * len(one.ids)
        whole = {"ensemble": [_cell(one.ensemble)] * len(one.ids), **table, **more}
        if one.ensemble in united:
            at = [(norm, eps) for norm, eps in united[one.ensemble].items()]
            whole["robust_to_all"] = _shares(
                np.minimum.reduce([_least(one, runs_of(results, one.ensemble), *b) for b in at])
            )
        lines += map(",".join, zip(*(whole.get(name, empty) for name in columns), strict=True))
    return "\n".join(lines) + "\n"


def quoted(results: Results, ensemble: str) -> int | None:
    """Return which of an ensemble's evaluations is the strongest at the budget that is quoted; None: none is there."""
    return strongest(runs_of(results, ensemble), headline_budget(results))


def smallest(
    one: SampleOutcomes, runs: Sequence[Evaluation], norm: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return of each sample the smallest eps at which nothing right is left, and the first run that did it there.

    Returns
    -------
    tuple of (N,) float and (N,) int
        The eps, inf where it withstood all and 0 where it is wrong without an attack; and the place of the run, which
        is ``UNBROKEN`` or ``AT_ONCE`` there.
    """
    wrong = one.clean == 0
    eps, by = np.where(wrong, 0.0, np.inf), np.where(wrong, AT_ONCE, UNBROKEN)
    places = sorted((at for at, e in enumerate(runs) if e["norm"] == norm), key=lambda at: runs[at]["eps"])
    for at in places:
        new = (one.attacked[at] == 0) & np.isinf(eps)
        eps[new], by[new] = runs[at]["eps"], at
    return eps, by


def _least(one: SampleOutcomes, runs: Sequence[Evaluation], norm: str, eps: float) -> npt.NDArray[np.float64]:
    """Return how likely each sample (N,) is right at worst, over the runs of a norm up to a budget."""
    rows = [right for e, right in zip(runs, one.attacked, strict=True) if e["norm"] == norm and e["eps"] <= eps]
    least: npt.NDArray[np.float64] = np.minimum.reduce([one.clean, *rows])
    return least


def _table(
    one: SampleOutcomes, runs: Sequence[Evaluation], norms: Iterable[str], label: Callable[[Run], str]
) -> dict[str, list[str]]:
    """Return the columns of one ensemble that say what broke which sample, as texts."""
    table = {
        "id": list(map(str, one.ids.tolist())), "label": list(map(str, one.labels.tolist())),
        "clean_prediction": list(map(str, one.predictions.tolist())), "clean_broken": _shares(1 - one.clean),
    }  # fmt: skip
    names = [_cell(label(e)) for e in runs] + [CLEAN, ""]  # the last are those of AT_ONCE and UNBROKEN
    for norm in norms:
        eps, by = smallest(one, runs, norm)
        table |= {f"smallest_eps_{norm}": _spelled(eps, _eps), f"broken_by_{norm}": [names[at] for at in by.tolist()]}
    return table | {name: _shares(1 - r) for name, r in zip(_names(runs, label), one.attacked, strict=True)}


def _votes(results: Results, one: SampleOutcomes, label: Callable[[Run], str]) -> Mapping[str, list[str]]:
    """Return what the members said of each clean image, and under the strongest attack at the budget to quote."""
    if not one.answers:
        return {}
    found = {"clean_votes": _joined(one.answers[0].members)}
    at = quoted(results, one.ensemble)
    if at is not None:
        run, said = runs_of(results, one.ensemble)[at], one.answers[1 + at]
        found["strongest_attack"] = [_cell(f"{label(run)} @ {budget_text(*budget(run))}")] * len(one.ids)
        found["strongest_prediction"] = list(map(str, said.fused.tolist()))
        found["strongest_votes"] = _joined(said.members)
    return found


def _joined(votes: npt.NDArray[Any]) -> list[str]:
    """Return the votes (M, N) on each sample as one text."""
    return [" ".join(map(str, one)) for one in votes.T.tolist()]


def _names(runs: Sequence[Evaluation], label: Callable[[Run], str]) -> list[str]:
    """Return the column of each run; a second one of the same settings, from other starts, is numbered."""
    taken = Counter[str]()
    names = []
    for e in runs:
        name = f"broken {label(e)} @ {budget_text(*budget(e))}"
        taken[name] += 1
        names.append(name if taken[name] == 1 else f"{name} ({taken[name]})")
    return names


def _eps(value: float) -> str:
    return "" if np.isinf(value) else f"{value:.10g}"


def _shares(values: npt.NDArray[np.float64]) -> list[str]:
    return _spelled(values, "{:.7g}".format)


def _spelled(values: npt.NDArray[np.float64], spell: Callable[[float], str]) -> list[str]:
    """Return the text of each value."""
    distinct, place = np.unique(values, return_inverse=True)
    texts = np.array([spell(value) for value in distinct.tolist()], object)
    found: list[str] = texts[place].tolist()
    return found


def _cell(text: str) -> str:
    """Return a text as it stands in a CSV file."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="").writerow([text, ""])
    return stream.getvalue()[:-1]

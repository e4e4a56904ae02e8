"""``samples.csv``: a row for each ensemble and sample, what broke it and at which eps, for pandas, R and people."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robustkit.records.outcomes import SampleOutcomes
from robustkit.records.schema import Evaluation, Results
from robustkit.records.schema_run import SamplesFile
from robustkit.reports._files import write_text
from robustkit.reports._labels import Run, budget, budget_text, labeller

FILE = "samples.csv"
CLEAN = "clean"  # what broke a sample that is wrong without any attack


def write_samples(results: Results, outcomes: Sequence[SampleOutcomes], out: Path) -> SamplesFile:
    """Write the table below ``out``, and return what ``results.json`` says of it."""
    text = samples_csv(results, outcomes)
    write_text(out / FILE, text)
    rows = sum(len(one.ids) for one in outcomes)
    return SamplesFile(file=FILE, sha256=hashlib.sha256(text.encode()).hexdigest(), rows=rows)


def samples_csv(results: Results, outcomes: Sequence[SampleOutcomes]) -> str:
    """Return the table as CSV; an attack that an ensemble did not meet leaves its cells empty.

    Columns: ``ensemble``, ``id``, ``label``, ``clean_prediction``, ``clean_broken``; for each norm
    ``smallest_eps_NORM`` and ``broken_by_NORM``; for each attack and budget ``broken LABEL @ EPS``. Broken is 1 or 0,
    and where answers are drawn how likely a wrong one is; 1 - its mean is the robust accuracy of ``results.json``.
    """
    own = {one.ensemble: [e for e in results["evaluations"] if e["ensemble"] == one.ensemble] for one in outcomes}
    label = labeller(results)
    norms = sorted({e["norm"] for e in results["evaluations"]})
    names = {one: _names(runs, label) for one, runs in own.items()}
    columns = ["ensemble", "id", "label", "clean_prediction", "clean_broken"]
    columns += [column for norm in norms for column in (f"smallest_eps_{norm}", f"broken_by_{norm}")]
    columns += dict.fromkeys(name for found in names.values() for name in found)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    for one in outcomes:
        table: dict[str, Sequence[Any]] = {
            "id": one.ids.tolist(), "label": one.labels.tolist(), "clean_prediction": one.predictions.tolist(),
            "clean_broken": _shares(1 - one.clean),
        }  # fmt: skip
        for norm in norms:
            eps, by = _smallest(one, own[one.ensemble], norm, label)
            table |= {f"smallest_eps_{norm}": eps, f"broken_by_{norm}": by}
        table |= {name: _shares(1 - r) for name, r in zip(names[one.ensemble], one.attacked, strict=True)}
        for at in range(len(one.ids)):
            writer.writerow({"ensemble": one.ensemble, **{name: values[at] for name, values in table.items()}})
    return stream.getvalue()


def _names(runs: Sequence[Evaluation], label: Callable[[Run], str]) -> list[str]:
    """Return the column of each run; a second one of the same settings, from other starts, is numbered."""
    taken = Counter[str]()
    names = []
    for e in runs:
        name = f"broken {label(e)} @ {budget_text(*budget(e))}"
        taken[name] += 1
        names.append(name if taken[name] == 1 else f"{name} ({taken[name]})")
    return names


def _smallest(
    one: SampleOutcomes, runs: Sequence[Evaluation], norm: str, label: Callable[[Run], str]
) -> tuple[list[str], list[str]]:
    """Return of each sample the smallest eps at which nothing right is left, and the first attack that did it there."""
    n = len(one.ids)
    eps, by = np.where(one.clean == 0, 0.0, np.inf), np.where(one.clean == 0, CLEAN, "").astype(object)
    for e, right in sorted(zip(runs, one.attacked, strict=True), key=lambda pair: pair[0]["eps"]):
        if e["norm"] == norm:
            new = (right == 0) & np.isinf(eps)
            eps[new], by[new] = e["eps"], label(e)
    return ["" if np.isinf(eps[at]) else f"{eps[at]:.10g}" for at in range(n)], by.tolist()


def _shares(values: Any) -> list[str]:
    return [f"{value:.7g}" for value in values]

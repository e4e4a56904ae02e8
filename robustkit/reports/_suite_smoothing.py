"""Randomised smoothing in a report: certified l2 accuracy of the smoothed ensembles."""

from __future__ import annotations

from collections.abc import Iterator

from robustkit.records.schema import Results
from robustkit.reports import _format as f
from robustkit.reports._labels import in_order
from robustkit.reports._table import Table, cells


def tables(results: Results) -> Iterator[Table]:
    """Yield a row for each ensemble."""
    every = in_order(results, results["smoothing"])
    eps = sorted({value for r in every for value in r["eps"]})
    columns = [
        "ensemble", "sigma", "unsmoothed %", "abstained", *(f"l2 {value:g}, %" for value in eps), "median radius", "n"
    ]  # fmt: skip
    rows = [
        cells(
            r["ensemble"], f.number(r["sigma"]), f.percent(r["clean_accuracy"]), str(r["abstained"]),
            *(f.percent(dict(zip(r["eps"], r["accuracy"], strict=True)).get(value)) for value in eps),
            f.number(r["median_radius"]), str(r["n"]),
        )
        for r in every
    ]  # fmt: skip
    first = every[0]
    note = (
        "Of the smoothed ensemble, which answers what the ensemble answers most often under Gaussian noise, and not of "
        "the ensemble: no floor under its attacked accuracy. l2: right on every image at that distance, each with a "
        f"probability of {f.percent(1 - first['failure'])} % ({first['draws']} draws, Clopper-Pearson; Cohen et al. "
        "2019). Where it abstains it counts as wrong."
    )
    records = [{k: v for k, v in r.items() if k not in ("eps", "accuracy")} for r in every]
    yield Table(
        "smoothing", "Randomised smoothing", columns, "lrrr" + "r" * (len(eps) + 2), rows, note, 2, True, records
    )

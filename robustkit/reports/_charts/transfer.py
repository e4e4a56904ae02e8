"""Transfer matrices: a chart per attack, budget and metric, a panel per ensemble, all on one colour scale."""

from __future__ import annotations

from collections.abc import Iterator

from robustkit.records.schema import Results
from robustkit.reports import _format as f
from robustkit.reports._charts._chart import Chart
from robustkit.reports._charts._matrix import matrix, scale
from robustkit.reports._heatmaps import matrices
from robustkit.reports._tables import transfers


def transfer(results: Results) -> Iterator[Chart]:
    """Yield the matrices; dark always means that the attack transfers."""
    tables = dict(zip(map(id, results["transfer"]), transfers(results), strict=True))
    for name, title, group in matrices(results):
        low_transfers = group[0]["metric"].startswith("accuracy")
        alt = f"Transfer matrices. {title}"
        panels = [
            matrix(
                f"{name}-{at}", f"{t['ensemble']}: {title}", alt, t["sources"], t["targets"], t["matrix"], f.percent,
                reverse=low_transfers, apart=True, x="scored on", y="crafted on",
                head=t["ensemble"],
            )
            for at, t in enumerate(group)
        ]  # fmt: skip
        legend = [("", [scale("0 %", "100 %", low_transfers)])]
        yield Chart(name, "transfer", title, alt, panels, legend, [tables[id(t)] for t in group])

"""Natural corruptions: accuracy by corruption and severity, a chart per suite, a panel per ensemble."""

from __future__ import annotations

from collections.abc import Iterator

from robustkit.records.schema import CorruptionResult, Results
from robustkit.reports import _format as f
from robustkit.reports._charts._chart import Chart, Panel
from robustkit.reports._charts._matrix import matrix, scale
from robustkit.reports._corruptions import by_suite


def corruptions(results: Results) -> Iterator[Chart]:
    """Yield the heatmap of every suite; dark means that little is left right."""
    for suite, group in by_suite(results).items():
        name, title = f.slug("corruptions", suite), f"{suite}: accuracy (%) by corruption and severity"
        names = list(dict.fromkeys(level["corruption"] for r in group for level in r["levels"]))
        severities = sorted({level["severity"] for r in group for level in r["levels"]})
        panels = [_panel(f"{name}-{at}", title, r, names, severities) for at, r in enumerate(group)]
        legend = [("", [scale("0 %", "100 %", True)])]
        yield Chart(name, "corruptions", title, f"Heatmap. {title}", panels, legend, shown=[name])


def _panel(ident: str, title: str, r: CorruptionResult, names: list[str], severities: list[int]) -> Panel:
    at = {(level["corruption"], level["severity"]): level["accuracy"] for level in r["levels"]}
    values = [[at.get((name, severity)) for severity in severities] for name in names]
    head = f"{r['ensemble']}, clean {f.percent(r['clean_accuracy'])} %"
    return matrix(
        ident, f"{head}: {title}", f"Heatmap. {title}", [name.replace("_", " ") for name in names], severities, values,
        f.percent, reverse=True, x="severity", head=head,
    )  # fmt: skip

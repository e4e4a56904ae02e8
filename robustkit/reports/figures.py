"""Figures as files."""

from __future__ import annotations

from pathlib import Path

from robustkit.records.schema import Results
from robustkit.reports import report
from robustkit.reports._files import write_bytes


@report("figures", title="Figures")
def figures(results: Results, out: Path) -> list[Path]:
    """Write every figure as ``figures/<name>.png`` and ``.svg``."""
    from robustkit.reports._figures import drawings

    paths = []
    for drawing in drawings(results):
        paths.append(write_bytes(out / "figures" / f"{drawing.name}.png", drawing.png()))
        paths.append(write_bytes(out / "figures" / f"{drawing.name}.svg", drawing.svg()))
    return paths

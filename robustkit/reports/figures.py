"""Figures as files."""

from __future__ import annotations

from pathlib import Path

from robustkit.records.schema import Results
from robustkit.reports import _drawn, report
from robustkit.reports._files import write_bytes


@report("figures", title="Figures")
def figures(results: Results, out: Path) -> list[Path]:
    """Write every figure as ``figures/<name>.png`` and ``.svg``, unless they lie there, drawn of the same results."""
    folder, of = out / "figures", _drawn.drawn_of(results)
    if there := _drawn.kept(folder, of):
        return there
    from robustkit.reports._figures import drawings

    _drawn.begin(folder)
    paths = []
    for drawing in drawings(results):
        paths.append(write_bytes(folder / f"{drawing.name}.png", drawing.png()))
        paths.append(write_bytes(folder / f"{drawing.name}.svg", drawing.svg()))
    if paths:
        _drawn.note(folder, (of, _drawn.drawn_of(results)), paths)  # drawing has loaded matplotlib, if nobody had
    return paths

"""A contact sheet of a suite of corruptions: one image at every severity, from the store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from robustkit.corruptions._plan import cell_of
from robustkit.reports._figures import Drawing
from robustkit.reports._files import write_bytes
from robustkit.reports._format import slug
from robustkit.reports._style import INK
from robustkit.store import Store
from robustkit.study import Study


def path(out: Path, suite: str) -> Path:
    """Return where the sheet of a suite lies."""
    return out / "figures" / f"{slug('contact-sheet', suite)}.png"


def write(study: Study, store: Store, out: Path) -> list[Path]:
    """Write the sheet of every suite whose cells kept an image; return the files."""
    written = []
    asked = study.corruptions if "corruptions" in study.suites else ()
    for suite in dict.fromkeys(spec.kind for spec in asked):
        images: dict[str, dict[int, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]] = {}
        for spec in (s for s in asked if s.kind == suite):
            run = store.load(cell_of(study, study.ensembles[0], spec), examples=True)
            if run is not None and len(run.samples.examples):
                images.setdefault(spec.name, {})[int(spec.params["severity"])] = run.samples.examples[0]
        if images:
            drawing = Drawing(suite, f"{suite}: one image at every severity.", _sheet(images), "corruptions")
            written.append(write_bytes(path(out, suite), drawing.png()))
    return written


def _sheet(images: dict[str, dict[int, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]]) -> Figure:
    severities = sorted({severity for row in images.values() for severity in row})
    figure = Figure(figsize=(1.0 * len(severities) + 1.8, 1.0 * len(images) + 0.4), layout="constrained", dpi=80)
    panels = figure.subplots(len(images), len(severities), squeeze=False)
    for line, (name, row) in zip(panels, images.items(), strict=True):
        for axes, severity in zip(line, severities, strict=True):
            axes.set_axis_off()
            if severity in row:
                image = row[severity].transpose(1, 2, 0)
                axes.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        title, place = name.replace("_", " "), line[0].transAxes
        line[0].text(-0.08, 0.5, title, transform=place, ha="right", va="center", fontsize=8, color=INK)
    for axes, severity in zip(panels[0], severities, strict=True):
        axes.set_title(f"severity {severity}", fontsize=8, color=INK)
    return figure

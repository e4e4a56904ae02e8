"""A contact sheet of a suite of corruptions: one image at every severity, from the store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from robustkit.corruptions._plan import cell_of
from robustkit.records.store import Store
from robustkit.reports._style import INK
from robustkit.study.plan import Study

if TYPE_CHECKING:  # half a second, which a page without figures does not need
    from matplotlib.figure import Figure

Image = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
SIDE, GAP = 96, 8  # pixels of an image that is not larger, and between two


def figures(study: Study, store: Store) -> Iterator[tuple[str, Figure]]:
    """Yield the sheet of every suite whose cells kept an image."""
    asked = study.corruptions if "corruptions" in study.suites else ()
    for suite in dict.fromkeys(spec.kind for spec in asked):
        images: dict[str, dict[int, Image]] = {}
        for spec in (s for s in asked if s.kind == suite):
            run = store.load(cell_of(study, study.ensembles[0], spec), examples=True)
            if run is not None and len(run.samples.examples):
                images.setdefault(spec.name, {})[int(spec.params["severity"])] = run.samples.examples[0]
        if images:
            yield suite, _sheet(images)


def _sheet(images: dict[str, dict[int, Image]]) -> Figure:
    """Draw all images as one picture, white between them."""
    from matplotlib.figure import Figure

    severities = sorted({severity for row in images.values() for severity in row})
    channels, height, width = next(iter(next(iter(images.values())).values())).shape
    scale = max(1, SIDE // max(height, width))
    tall, wide = height * scale + GAP, width * scale + GAP
    canvas = np.ones((channels, tall * len(images), wide * len(severities)), np.float32)
    for down, row in enumerate(images.values()):
        for severity, image in row.items():
            top, left = down * tall, severities.index(severity) * wide
            large = image.repeat(scale, 1).repeat(scale, 2)
            canvas[:, top : top + tall - GAP, left : left + wide - GAP] = large
    size = (canvas.shape[2] / SIDE + 2.6, canvas.shape[1] / SIDE + 0.4)  # inches
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    axes = figure.subplots()
    axes.imshow(canvas.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=1)
    axes.set_yticks([tall * (at + 0.5) for at in range(len(images))], [name.replace("_", " ") for name in images])
    axes.set_xticks([wide * (at + 0.5) for at in range(len(severities))], [f"severity {s}" for s in severities])
    axes.xaxis.tick_top()
    axes.tick_params(labelsize=8, colors=INK, length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    return figure

"""A gallery of attribution maps: a few images, and what each member looks at in them, from the store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy.typing as npt
from matplotlib.figure import Figure

from robustkit.reports._style import INK, SOFT
from robustkit.store import Store
from robustkit.study import Study
from robustkit.suites._diversity_results import cell_of

SIDE, LEFT, TOP = 1.05, 0.3, 0.4  # inches of an image with its gap, and of the margins that bear text
MOST = 8  # members shown
Arrays = dict[str, npt.NDArray[Any]]


def galleries(study: Study, store: Store) -> Iterator[tuple[str, Figure]]:
    """Yield (ensemble, figure) for each ensemble that has maps to show."""
    for record in study.ensembles:
        facts = store.load_facts(cell_of(study, record, "attributions"))
        if facts is not None and len(facts.arrays.get("shown", ())):
            yield record.id, _gallery(dict(facts.arrays), study.dataset.classes)


def _gallery(arrays: Arrays, classes: tuple[str, ...]) -> Figure:
    """Draw a row per image: the image, then GradCAM and saliency of each member, each map on its own scale."""
    images, lines = arrays["shown"], arrays["shown-saliency"]
    members = min(lines.shape[1], MOST)
    columns: list[tuple[str, npt.NDArray[Any]]] = []
    for at in range(members):
        if f"shown-gradcam-{at}" in arrays:
            columns.append((f"GradCAM\nmember {at}", arrays[f"shown-gradcam-{at}"]))
    columns += [(f"saliency\nmember {at}", lines[:, at]) for at in range(members)]
    wide = len(columns) + 1
    inches = (SIDE * wide + LEFT, SIDE * len(images) + TOP)
    figure = Figure(figsize=inches, facecolor="white")
    panels = figure.subplots(len(images), wide, squeeze=False)
    # Placed by hand: a layout that measures every text would take most of the time.
    figure.subplots_adjust(LEFT / inches[0], 0.01, 0.995, 1 - TOP / inches[1], wspace=0.06, hspace=0.06)
    height, width = images.shape[2:]
    for row, image in enumerate(images):
        grey = image.mean(0)
        panels[row, 0].imshow(image.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=1)
        panels[row, 0].set_ylabel(classes[int(arrays["label"][row])], fontsize=8, color=SOFT)
        for axes, (title, maps) in zip(panels[row, 1:], columns, strict=True):
            frame = (-0.5, width - 0.5, height - 0.5, -0.5)
            if title.startswith("GradCAM"):  # coarse: laid over the image, so that one sees where it is
                axes.imshow(grey, cmap="gray", vmin=0, vmax=1)
                axes.imshow(maps[row], cmap="inferno", alpha=0.6, extent=frame, interpolation="bilinear", vmin=0)
            else:
                axes.imshow(maps[row], cmap="inferno", vmin=0)
            if row == 0:
                axes.set_title(title, fontsize=7, color=INK)
    panels[0, 0].set_title("image,\npredicted class", fontsize=7, color=INK)
    for axes in panels.ravel():
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
    return figure

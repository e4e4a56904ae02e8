"""A gallery of attribution maps: a few images, and what each member looks at in them, from the store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from robustkit.records.store import Store
from robustkit.reports._style import INK, SOFT
from robustkit.study.plan import Study
from robustkit.suites._diversity_results import cell_of

if TYPE_CHECKING:  # half a second, which a page without figures does not need
    from matplotlib.figure import Figure

SIDE, LEFT, TOP = 1.05, 0.3, 0.4  # inches of a panel, and of the margins that bear text
GAP = 0.06  # between two images, of a panel
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
    from matplotlib.figure import Figure

    images, lines = arrays["shown"], arrays["shown-saliency"]
    members = min(lines.shape[1], MOST)
    columns: list[tuple[str, npt.NDArray[Any]]] = []
    for at in range(members):
        if f"shown-gradcam-{at}" in arrays:
            columns.append((f"GradCAM\nmember {at}", arrays[f"shown-gradcam-{at}"]))
    columns += [(f"saliency\nmember {at}", lines[:, at]) for at in range(members)]
    wide, high = len(columns) + 1, len(images)
    inches = (SIDE * wide + LEFT, SIDE * high + TOP)
    figure = Figure(figsize=inches, facecolor="white")
    # One pair of axes, in units of a panel, placed by hand: a pair for each panel would take longer than the drawing.
    axes = figure.add_axes((LEFT / inches[0], 0, SIDE * wide / inches[0], SIDE * high / inches[1]))
    axes.set(autoscale_on=False, xlim=(0, wide), ylim=(high, 0))
    down, right = (GAP / 2 + (1 - GAP) * (1 - n / max(images.shape[2:])) / 2 for n in images.shape[2:])
    for row, image in enumerate(images):
        frame = (right, 1 - right, row + 1 - down, row + down)  # of the first panel
        axes.imshow(image.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=1, extent=frame, aspect="auto")
        for column, (title, maps) in enumerate(columns, 1):
            across = (frame[0] + column, frame[1] + column)
            here: dict[str, Any] = {"extent": (*across, *frame[2:]), "aspect": "auto"}
            if title.startswith("GradCAM"):  # coarse: laid over the image, so that one sees where it is
                axes.imshow(image.mean(0), cmap="gray", vmin=0, vmax=1, **here)
                axes.imshow(maps[row], cmap="inferno", alpha=0.6, interpolation="bilinear", vmin=0, **here)
            else:
                axes.imshow(maps[row], cmap="inferno", vmin=0, **here)
    titles = ["image,\npredicted class", *(title for title, _ in columns)]
    axes.set_xticks([at + 0.5 for at in range(wide)], titles, fontsize=7, color=INK)
    named = [classes[int(label)] for label in arrays["label"][:high]]
    axes.set_yticks([at + 0.5 for at in range(high)], named, fontsize=8, color=SOFT, rotation=90, va="center")
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure

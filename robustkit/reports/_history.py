"""The history of a training: a CSV with one row per epoch, and the curves."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from robustkit.reports._files import write_bytes, write_text
from robustkit.reports._style import DPI, GRID, PALETTE, SOFT, bare

if TYPE_CHECKING:  # half a second, and every training imports this module
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACCURACIES = ("accuracy", "validation_accuracy")
NOT_LOSSES = ("epoch", "lr", "seconds", *ACCURACIES)
Row = dict[str, float]


def write_history(history: Sequence[Row], folder: Path, title: str) -> None:
    """Write ``history.csv`` and ``history.png`` beside a checkpoint; nothing where no epoch is known."""
    if not history:
        return
    names = list(dict.fromkeys(name for row in history for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(folder / "history.csv", text.getvalue())
    image = io.BytesIO()
    training_curves(history, title).savefig(image, format="png", dpi=DPI, metadata={"Software": None})
    write_bytes(folder / "history.png", image.getvalue())


def training_curves(history: Sequence[Row], title: str) -> Figure:
    """Draw the accuracies and, in a second panel, the loss and its parts against the epoch."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained", facecolor="white", dpi=DPI)
    left, right = figure.subplots(1, 2)
    figure.suptitle(title, fontsize=11)
    _panel(left, history, [name for name in ACCURACIES if name in history[0]], "accuracy")
    _panel(right, history, [name for name in history[0] if name not in NOT_LOSSES], "loss and its parts")
    return figure


def _panel(axes: Axes, history: Sequence[Row], names: Sequence[str], label: str) -> None:
    from matplotlib.ticker import MaxNLocator

    epochs = [row["epoch"] for row in history]
    marker = "o" if len(history) < 20 else ""
    for at, name in enumerate(names):
        values = [row.get(name, float("nan")) for row in history]
        axes.plot(epochs, values, marker=marker, markersize=3, color=PALETTE[at % len(PALETTE)], label=_words(name))
    bare(axes)
    axes.grid(axis="y", color=GRID)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch", color=SOFT)
    axes.set_ylabel(label, color=SOFT)
    axes.legend(frameon=False, fontsize=9)


def _words(name: str) -> str:
    return {"accuracy": "training (mean of the members)", "validation_accuracy": "validation (fused)"}.get(
        name, name.replace("_", " ")
    )

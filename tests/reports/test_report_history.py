"""The history of a training: the CSV row by row, and which curve goes where."""

from __future__ import annotations

import csv
from pathlib import Path

from robustkit.reports._history import training_curves, write_history

HISTORY = [
    {"epoch": 1.0, "loss": 2.5, "ce": 3.0, "log_ed": -1.0, "accuracy": 0.5, "validation_accuracy": 0.6, "lr": 1e-3,
     "seconds": 2.0},
    {"epoch": 2.0, "loss": 1.5, "ce": 2.0, "log_ed": -0.5, "accuracy": 0.7, "validation_accuracy": 0.8, "lr": 1e-4,
     "seconds": 2.0},
]  # fmt: skip


def test_csv_has_a_row_for_each_epoch(tmp_path: Path):
    write_history(HISTORY, tmp_path, "adp on digits")
    with (tmp_path / "history.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [{name: float(value) for name, value in row.items()} for row in rows] == HISTORY
    assert (tmp_path / "history.png").read_bytes().startswith(b"\x89PNG")


def test_curves_show_accuracies_left_and_every_part_of_the_loss_right():
    left, right = training_curves(HISTORY, "adp on digits").axes
    shown = {line.get_label(): list(line.get_ydata()) for line in (*left.lines, *right.lines)}
    assert shown == {
        "training (mean of the members)": [0.5, 0.7],
        "validation (fused)": [0.6, 0.8],
        "loss": [2.5, 1.5],
        "ce": [3.0, 2.0],
        "log ed": [-1.0, -0.5],
    }
    assert len(left.lines) == 2


def test_without_history_nothing_is_written(tmp_path: Path):
    write_history([], tmp_path, "nothing")
    assert list(tmp_path.iterdir()) == []

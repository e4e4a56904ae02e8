"""Detection of adversarial images: ROC curves, a chart per ensemble, a panel per attacker."""

from __future__ import annotations

from collections.abc import Iterator

from robustkit.records.schema import Results
from robustkit.records.schema_suites import DetectionResult
from robustkit.reports import _format as f
from robustkit.reports._charts._chart import Chart, Entry
from robustkit.reports._charts._marks import numbered, swatch
from robustkit.reports._charts._roc import Roc, roc_panel, roc_table
from robustkit.reports._labels import budget_text
from robustkit.reports._suite_detection import PANELS, names_of, with_curves


def detection(results: Results) -> Iterator[Chart]:
    """Yield the curves of the scores that are attacked too, or of the main ones."""
    for ensemble, shown in with_curves(results):
        names = names_of(shown)
        looks = numbered(names, "s")
        by = {
            adaptive: [_roc(row) for row in shown if row["adaptive"] == adaptive and row["score"] in names]
            for adaptive in PANELS
            if any(row["adaptive"] == adaptive for row in shown)
        }
        name = f.slug("detection", ensemble)
        alt = f"{ensemble}: ROC curves of detection scores; the attacker ignores the detector, or knows it."
        x = "adversarial images taken for normal"
        panels = [
            roc_panel(f"{name}-{int(adaptive)}", PANELS[adaptive], alt, x, curves, looks)
            for adaptive, curves in by.items()
        ]
        legend = [("", [Entry(swatch(look), score, look.keys[0]) for score, look in looks.items()])]
        groups = [(PANELS[adaptive], curves) for adaptive, curves in by.items()]
        title = f"{ensemble}: normal against adversarial images"
        yield Chart(name, "detection", title, alt, panels, legend, [roc_table(name, title, groups, "attacker")])


def _roc(row: DetectionResult) -> Roc:
    attack = f"{row['attack']} at {budget_text(row['eps'], row['norm'])}"
    about = f"{row['score']}, {attack}" + ("" if row["auroc"] is None else f": AUROC {row['auroc']:.3f}")
    return Roc(row["score"], about, row["auroc"], row["fpr"], row["tpr"])

"""Out-of-distribution detection: AUROC as a heatmap, then ROC curves, a chart per ensemble, a panel per set."""

from __future__ import annotations

from collections.abc import Iterator

from robustkit.records.schema import Results
from robustkit.records.schema_suites import OodResult, OodScore
from robustkit.reports import _format as f
from robustkit.reports._charts._chart import Chart, Entry
from robustkit.reports._charts._marks import numbered, swatch
from robustkit.reports._charts._matrix import matrix, scale
from robustkit.reports._charts._roc import Roc, roc_panel, roc_table
from robustkit.reports._labels import in_order
from robustkit.reports._suite_ood import LOWEST, aurocs, title_of


def ood(results: Results) -> Iterator[Chart]:
    """Yield the heatmap, then the curves of each ensemble."""
    every = in_order(results, results["ood"])
    if not every:
        return
    yield _heatmap(every)
    taken = {"ood"}
    for r in every:
        yield _curves(r, f.unique(f.slug("ood-roc", r["ensemble"]), taken))


def _heatmap(every: list[OodResult]) -> Chart:
    alt = "Heatmap. AUROC (%) by score and out-of-distribution set."
    titles, found = aurocs(every)
    panels = [
        matrix(f"ood-{at}", ensemble, alt, scores, titles, values.tolist(), f.percent, low=LOWEST, reverse=True)
        for at, (ensemble, scores, values) in enumerate(found)
    ]
    title = "AUROC (%) by score and out-of-distribution set; 50 is chance"
    legend = [("", [scale(f"{100 * LOWEST:.0f} % or less", "100 %", True)])]
    return Chart("ood", "ood", title, alt, panels, legend)


def _curves(r: OodResult, name: str) -> Chart:
    alt = f"ROC curves of {r['ensemble']}: a panel per out-of-distribution set, a curve per score."
    looks = numbered(list(dict.fromkeys(score["score"] for one in r["sets"] for score in one["scores"])), "s")
    groups = [(f"{title_of(one)}, n = {one['n']}", [_roc(score) for score in one["scores"]]) for one in r["sets"]]
    panels = [
        roc_panel(f"{name}-{at}", title, alt, "set's images taken for normal", curves, looks)
        for at, (title, curves) in enumerate(groups)
    ]
    legend = [("", [Entry(swatch(look), score, look.keys[0]) for score, look in looks.items()])]
    title = f"{r['ensemble']}: {r['n']} test images against each set"
    return Chart(name, "ood", title, alt, panels, legend, [roc_table(name, title, groups, "set")])


def _roc(score: OodScore) -> Roc:
    about = score["score"] + ("" if score["auroc"] is None else f": AUROC {f.percent(score['auroc'])} %")
    return Roc(score["score"], about, score["auroc"], score["fpr"], score["tpr"])

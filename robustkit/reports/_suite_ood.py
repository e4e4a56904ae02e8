"""Out-of-distribution detection in a report: AUROC by score and set, what the sets are, heatmap and ROC curves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from robustkit.metrics.calibration import Floats
from robustkit.records.schema import Results
from robustkit.records.schema_suites import OodMean, OodResult, OodScore, OodSetResult
from robustkit.reports import _format as f
from robustkit.reports._drawing import Drawing
from robustkit.reports._labels import in_order
from robustkit.reports._mesh import mesh
from robustkit.reports._style import DPI, INK, PALETTE, SOFT, bare
from robustkit.reports._table import Table, cells

if TYPE_CHECKING:  # half a second, which a page without figures does not need
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOWEST = 0.4  # of the heatmap's shades: 0.5 is what chance gives


def tables(results: Results) -> Iterator[Table]:
    """Yield AUROC by ensemble and score, then all measures of each set, then what the sets are."""
    every = in_order(results, results["ood"])
    first = every[0]
    titles = [title_of(one) for one in first["sets"]]
    near_far = list(dict.fromkeys(mean["distance"] for mean in first["means"]))
    rows, details = [], []
    for r in every:
        for at, score in enumerate(first["sets"][0]["scores"] if r is first else r["sets"][0]["scores"]):
            name = score["score"]
            numbers = [_auroc(one["scores"][at]) for one in r["sets"]]
            means = [f.percent(_mean(r, distance, name)["auroc"]) for distance in near_far]
            rows.append(cells(r["ensemble"], name, *numbers, *means))
            details += [cells(r["ensemble"], one["name"], name, *_measures(one["scores"][at])) for one in r["sets"]]
    columns = ["ensemble", "score", *titles, *(f"mean {distance}" for distance in near_far)]
    note = (
        f"AUROC in %, with bootstrap 95 % interval; 50 is chance. Normal: n = {first['n']} evaluated samples. "
        + " ".join(_duplicates(first))
    ).strip()
    title = "Out-of-distribution detection"
    yield Table("ood", title, columns, "ll" + "r" * (len(columns) - 2), rows, note, 2, True, _records(every))
    columns = ["ensemble", "set", "score", "AUROC %", "AUPR %", "AUPR of the set %", "FPR at 95 % TPR"]
    details.sort(key=lambda row: ([r["ensemble"] for r in every].index(str(row[0])), _place(first, str(row[1]))))
    note = "AUPR: normal samples as positive, then the set's images. FPR: share of the set taken for normal."
    yield Table("ood-measures", "All measures of each set", columns, "lllrrrr", details, note, 3, True)
    yield _what(first)


def _what(r: OodResult) -> Table:
    columns = ["set", "distance", "images", "of", "duplicates", "what they are", "adaptation"]
    rows = [
        cells(s["name"], s["distance"], str(s["n"]), str(s["found"]), str(s["duplicates"]), s["what"], s["adaptation"])
        for s in r["sets"]
    ]
    note = "Duplicates equal an evaluated image in every 8-bit level; they are left out."
    return Table("ood-sets", "The out-of-distribution sets", columns, "llrrrll", rows, note)


def drawings(results: Results) -> Iterator[Drawing]:
    """Yield a heatmap of AUROC, then ROC curves of each ensemble."""
    every = in_order(results, results["ood"])
    yield Drawing("ood", "Heatmap. AUROC (%) by score and out-of-distribution set.", _heatmap(every), "ood")
    taken = {"ood"}
    for r in every:
        name = f.unique(f.slug("ood-roc", r["ensemble"]), taken)
        alt = f"ROC curves of {r['ensemble']}: a panel per out-of-distribution set, a curve per score."
        yield Drawing(name, alt, _curves(r), "ood")


def _heatmap(every: list[OodResult]) -> Figure:
    """Draw AUROC, a panel per ensemble, sets and means in columns."""
    from matplotlib import colormaps
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    titles, matrices = aurocs(every)
    names = [own for _, own, _ in matrices]
    most = max(map(len, names))
    figure = Figure(
        figsize=((0.62 * len(titles) + 1.5) * len(every) + 0.4, 0.32 * most + 2.2),
        layout="constrained", facecolor="white", dpi=DPI,
    )  # fmt: skip
    shades, scale = colormaps["YlGnBu_r"], Normalize(LOWEST, 1.0)
    for axes, (ensemble, own, values) in zip(figure.subplots(1, len(every), squeeze=False)[0], matrices, strict=True):
        mesh(axes, values, own, titles, shades, scale, f.percent, rotation=35, ha="right")
        axes.set_title(ensemble, fontsize=9, color=INK)
    figure.suptitle("AUROC (%) by score and out-of-distribution set; 50 is chance", fontsize=10, color=INK)
    return figure


def aurocs(every: list[OodResult]) -> tuple[list[str], list[tuple[str, list[str], Floats]]]:
    """Return the sets and means, and of each ensemble (id, its scores, AUROC); what was not measured is NaN."""
    means = list(dict.fromkeys(mean["distance"] for mean in every[0]["means"]))
    titles = [*(title_of(one) for one in every[0]["sets"]), *(f"mean {distance}" for distance in means)]
    found = []
    for r in every:
        own = [score["score"] for score in r["sets"][0]["scores"]]
        values = np.full((len(own), len(titles)), np.nan)
        for row, name in enumerate(own):
            numbers = [one["scores"][row]["auroc"] for one in r["sets"]]
            numbers += [_mean(r, distance, name)["auroc"] for distance in means]
            values[row] = [np.nan if number is None else number for number in numbers]
        found.append((r["ensemble"], own, values))
    return titles, found


def _curves(r: OodResult) -> Figure:
    """Draw the ROC curves of one ensemble, a panel per set."""
    from matplotlib.figure import Figure

    sets = r["sets"]
    columns = min(3, len(sets))
    rows = -(-len(sets) // columns)
    figure = Figure(figsize=(3.6 * columns + 1.6, 3.6 * rows + 0.4), layout="constrained", facecolor="white", dpi=DPI)
    panels: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, one in zip(panels, sets, strict=False):
        axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=(0, (1, 3)))
        for at, score in enumerate(one["scores"]):
            style = "solid" if at < len(PALETTE) else "dashed"
            colour = PALETTE[at % len(PALETTE)]
            axes.plot(score["fpr"], score["tpr"], color=colour, linestyle=style, linewidth=1.4, label=score["score"])
        axes.set_title(f"{title_of(one)}, n = {one['n']}", fontsize=9, color=INK)
        axes.set_xlabel("set's images taken for normal", fontsize=8, color=SOFT)
        axes.set_ylabel("normal images taken for normal", fontsize=8, color=SOFT)
        axes.tick_params(labelsize=8, colors=SOFT)
        axes.set_aspect("equal")
        bare(axes)
    for axes in panels[len(sets) :]:
        axes.set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8)
    figure.suptitle(f"{r['ensemble']}: {r['n']} test images against each set", fontsize=10, color=INK)
    return figure


def title_of(one: OodSetResult) -> str:
    """Return a set's short name, without the folders of a path, and its distance."""
    kind, colon, path = one["name"].partition(":")
    name = f"{kind}:{path.replace(chr(92), '/').rstrip('/').rpartition('/')[2]}" if colon else kind
    return name if one["distance"] == "unknown" else f"{name} ({one['distance']})"


def _place(r: OodResult, name: str) -> int:
    return [one["name"] for one in r["sets"]].index(name)


def _mean(r: OodResult, distance: str, score: str) -> OodMean:
    return next(mean for mean in r["means"] if (mean["distance"], mean["score"]) == (distance, score))


def _auroc(score: OodScore) -> str:
    share = f.percent(score["auroc"])
    return share if score["ci95"] is None else f.followed(share, f" {f.interval(score['ci95'])}")


def _measures(score: OodScore) -> list[str]:
    return [_auroc(score), *(f.percent(value) for value in (score["aupr"], score["aupr_ood"], score["fpr95"]))]


def _duplicates(r: OodResult) -> list[str]:
    return [
        f"{s['name']}: {s['duplicates']} of {s['duplicates'] + s['n']} images are evaluated ones; left out."
        for s in r["sets"]
        if s["duplicates"]
    ]


def _records(every: list[OodResult]) -> list[dict[str, Any]]:
    """Return one record per ensemble, set and score."""
    return [
        {"ensemble": r["ensemble"], "set": s["name"], "distance": s["distance"], "n_normal": r["n"], "n_set": s["n"],
         "duplicates": s["duplicates"], "score": v["score"], "auroc": v["auroc"],
         "ci95_low": v["ci95"][0] if v["ci95"] else None, "ci95_high": v["ci95"][1] if v["ci95"] else None,
         "aupr": v["aupr"], "aupr_ood": v["aupr_ood"], "fpr95": v["fpr95"]}
        for r in every for s in r["sets"] for v in s["scores"]
    ]  # fmt: skip

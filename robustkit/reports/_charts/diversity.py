"""Diversity of members: pair matrices, distributions of cosines, CKA between layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from robustkit.records.schema import Results
from robustkit.records.schema_members import CosineDistribution, DiversityResult
from robustkit.reports import _diversity_maps as maps
from robustkit.reports import _format as f
from robustkit.reports._charts._axis import linear
from robustkit.reports._charts._chart import Chart, Entry, Panel
from robustkit.reports._charts._marks import Series, band, curve, marker, numbered, swatch
from robustkit.reports._charts._matrix import matrix, scale
from robustkit.reports._charts._panel import panel, reference
from robustkit.reports._charts._svg import Point, line, number
from robustkit.reports._labels import in_order
from robustkit.reports._suite_diversity import PAIRS
from robustkit.reports._table import Table, cells


def diversity(results: Results) -> Iterator[Chart]:
    """Yield the pair matrices, the cosines of maps, and the CKA of each ensemble."""
    found = [r for r in in_order(results, results["diversity"]) if r["members"] > 1]
    if any(r["pairwise"] for r in found):
        yield _pairs([r for r in found if r["pairwise"]])
    if there := maps.distributions(found):
        yield _cosines(there)
    taken = set[str]()
    for r in found:
        if r["layers"]:
            yield _layers(r, f.unique(f.slug("diversity-cka", r["ensemble"]), taken))


def _pairs(found: Sequence[DiversityResult]) -> Chart:
    """Return a panel per measure and ensemble, those of one measure on one colour scale, without the diagonal."""
    alt = "Heatmaps of every pairwise measure between members, on one scale for each measure."
    panels: list[Panel] = []
    for key, (name, unit, way) in PAIRS.items():
        matrices = [maps.pair_matrix(r, key) for r in found]
        low, high = maps.value_range(matrices)
        for r, values in zip(found, matrices, strict=True):
            members = range(len(values))
            head = f"{name}{f' [{unit}]' if unit else ''}: {r['ensemble']} ({way} is more diverse)"
            panels.append(matrix(
                f"diversity-pairs-{len(panels)}", head, alt, members, members, values.tolist(),
                f.percent if unit == "%" else "{:.2f}".format, low=low, high=high,
            ))  # fmt: skip
    legend = [("", [scale("the smallest value of a measure, or 0,", "its largest")])]
    title = "Pairs of members"
    return Chart("diversity-pairs", "diversity", title, alt, panels, legend, shown=["diversity-pairs"])


def _cosines(there: dict[str, list[tuple[str, CosineDistribution]]]) -> Chart:
    """Return a panel per kind of maps, a curve per ensemble; a dotted line and a marker are its mean."""
    alt = "Distributions of the cosines between members' GradCAM and saliency maps, a curve per ensemble."
    looks = numbered(list(dict.fromkeys(ensemble for group in there.values() for ensemble, _ in group)), "e")
    panels = [_distribution(kind, group, looks, alt) for kind, group in there.items()]
    tables = [_counts(kind, group) for kind, group in there.items()]
    legend = [("", [Entry(swatch(look), name, look.keys[0]) for name, look in looks.items()])]
    title = "Cosines between members' maps"
    return Chart("diversity-cosines", "diversity", title, alt, panels, legend, tables, note="A marker is a mean.")


def _distribution(
    kind: str, group: Sequence[tuple[str, CosineDistribution]], looks: dict[str, Series], alt: str
) -> Panel:
    counted = [(ensemble, c, sum(c["counts"])) for ensemble, c in group if sum(c["counts"]) and c["mean"] is not None]
    lowest = min(c["edges"][int(np.flatnonzero(c["counts"])[0])] for _, c, _ in counted)
    x = linear([], f"cosine between two members' {maps.MAPS[kind]} maps", low=min(lowest, 0.0), high=1.0)
    top = max(max(c["counts"]) / every for _, c, every in counted)
    y = linear([top], "share of images and pairs (%)", low=0.0, scale=100)
    bands, lines, points = [], [], []
    for ensemble, c, every in counted:
        look = looks[ensemble]
        outline = _stairs([n / every for n in c["counts"]], c["edges"], x.low)
        bands.append(band([(at, 0.0) for at, _ in outline], outline, look))
        lines.append(curve(line(outline), look, readable=True))
        mean = float(c["mean"] or 0.0)
        lines.append(reference(f"M{number(mean)} 0V{number(y.high)}"))
        points.append(marker(x, y, (mean, y.high), look, f"{ensemble}: mean {mean:.2f}"))
    title = f"{maps.MAPS[kind]} maps"
    return panel(f"diversity-cosines-{kind}", title, alt, x, y, [*bands, *lines], points, "tall")


def _stairs(shares: Sequence[float], edges: Sequence[float], low: float) -> list[Point]:
    """Return the outline of a histogram from where the axis begins."""
    corners: list[Point] = []
    for share, left, right in zip(shares, edges, edges[1:], strict=False):
        if right > low:
            corners += [(max(left, low), share), (right, share)]
    return corners


def _counts(kind: str, group: Sequence[tuple[str, CosineDistribution]]) -> Table:
    """Return a row for each bin in which any ensemble has a cosine."""
    columns = ["cosine", *(ensemble for ensemble, _ in group)]
    by = [{edge: n for edge, n in zip(c["edges"], c["counts"], strict=False)} for _, c in group]
    edges = sorted({edge for own in by for edge, n in own.items() if n})
    ends = {low: high for _, c in group for low, high in zip(c["edges"], c["edges"][1:], strict=False)}
    rows = [cells(f"{low:.2f} to {ends[low]:.2f}", *(str(own.get(low, 0)) for own in by)) for low in edges]
    rows.append(cells("mean", *(f.number(c["mean"]) for _, c in group)))
    title = f"{maps.MAPS[kind]}: images and pairs by their cosine"
    return Table(f"diversity-cosines-{kind}", title, columns, "l" + "r" * len(group), rows)


def _layers(r: DiversityResult, name: str) -> Chart:
    """Return a map per pair of members, or the mean map of many pairs."""
    alt = f"{r['ensemble']}: linear CKA between the layers of its members."
    found, left = maps.layer_maps(r)
    panels, tables = [], []
    for at, (title, rows, columns, values) in enumerate(found):
        across, down = maps.short(columns), maps.short(rows)
        written = len(columns) <= 8
        panels.append(matrix(
            f"{name}-{at}", f"{r['ensemble']}, {title}", alt, down, across, values.tolist(), "{:.2f}".format,
            written=written, head=title,
        ))  # fmt: skip
        texts = [[f.NONE if not np.isfinite(v) else f"{v:.2f}" for v in row] for row in values.tolist()]
        lines = [cells(layer, *own) for layer, own in zip(down, texts, strict=True)]
        tables.append(Table(f"{name}-{at}", title, ["layer", *across], "l" + "r" * len(across), lines))
    more = f"{left} further pairs are in results.json." if left else ""
    title = f"{r['ensemble']}: linear CKA between layers"
    return Chart(name, "diversity", title, alt, panels, [("", [scale("0", "1")])], tables, note=more)

"""Gain of the subsets of a pool against each measure of diversity: a chart per validation set, a panel per measure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from robustkit.records.schema import Results
from robustkit.records.schema_members import PoolSet
from robustkit.reports import _format as f
from robustkit.reports._charts._axis import Axis, linear
from robustkit.reports._charts._chart import Chart, Entry, Panel
from robustkit.reports._charts._marks import Series, cloud, swatch
from robustkit.reports._charts._panel import panel, reference
from robustkit.reports._charts._svg import Point, number
from robustkit.reports._pool_scatter import RULES

MOST = 1000  # dots of a rule in a panel; of more, those that fall into one pixel are drawn once
GRID = (360, 240)  # such pixels across and up
LOOKS = {rule: Series(rule, at, 0, at, keys=(f"r{at}",)) for at, rule in enumerate(RULES)}


def pools(results: Results) -> Iterator[Chart]:
    """Yield a chart for each validation set."""
    taken = set[str]()
    for pool in results["pools"]:
        for one in pool["sets"]:
            name = f.unique(f.slug("pools", one["name"]), taken)
            alt = f"{one['name']}: gain of a subset over its best member against each measure of diversity."
            gains = {rule["rule"]: rule["gain"] for rule in one["rules"]}
            y = linear((g for rule in RULES for g in gains[rule]), "gain (points)", scale=100)
            names = [name for name, values in one["measures"].items() if any(v is not None for v in values)]
            panels = [_panel(f"{name}-{at}", one, gains, measure, y, alt) for at, measure in enumerate(names)]
            legend = [("", [Entry(swatch(LOOKS[rule], lined=False), rule, LOOKS[rule].keys[0]) for rule in RULES])]
            note = f"A dot is a subset; r: Pearson correlation, {', '.join(RULES)}. All subsets are in results.json."
            if len(pool["subsets"]) > MOST:
                note += f" Of {len(pool['subsets'])} dots those that lie on each other are drawn once."
            title = f"{one['name']}: gain over the best member, n = {one['n']}"
            yield Chart(name, "pools", title, alt, panels, legend, shown=["pools-correlation"], note=note)


def _panel(ident: str, one: PoolSet, gains: dict[str, list[float]], measure: str, y: Axis, alt: str) -> Panel:
    found = {c["rule"]: c["pearson"] for c in one["correlations"] if c["measure"] == measure}
    r = ", ".join("-" if found.get(rule) is None else f"{found[rule]:+.2f}" for rule in RULES)
    label = measure.replace("_", " ")
    title = f"{label}, r = {r}" if any(found.get(rule) is not None for rule in RULES) else label
    values = one["measures"][measure]
    x = linear(values, label, most=5)
    clouds = [
        cloud(_apart([(v, g) for v, g in zip(values, gains[rule], strict=True) if v is not None], x, y), LOOKS[rule])
        for rule in RULES
    ]
    zero = reference(f"M{number(x.low)} 0H{number(x.high)}")
    return panel(ident, title, alt, x, y, [zero, *clouds], shape="small")


def _apart(points: Sequence[Point], x: Axis, y: Axis) -> Sequence[Point]:
    """Return the points, of many only one for each pixel."""
    if len(points) <= MOST:
        return points
    places = {(round(GRID[0] * x.place(a)), round(GRID[1] * y.place(b or 0.0))): (a, b) for a, b in points}
    return list(places.values())

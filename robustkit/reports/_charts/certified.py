"""Floor and ceiling of the robust accuracy against eps: what is proven, what the attacks left, and what is between."""

from __future__ import annotations

from collections.abc import Iterator

from robustkit.records.schema import Results
from robustkit.records.schema_proofs import CertifiedResult
from robustkit.reports import _format as f
from robustkit.reports._charts._axis import Axis, budgets, shares
from robustkit.reports._charts._chart import Chart, Entry, Panel
from robustkit.reports._charts._marks import Series, band, curve, marker, markers, numbered, swatch
from robustkit.reports._charts._panel import panel
from robustkit.reports._charts._svg import line
from robustkit.reports._labels import budget_text, in_order
from robustkit.reports._suite_certified import NAME, TITLE, ends, sentence


def certified(results: Results) -> Iterator[Chart]:
    """Yield a chart with the floor, the ceiling and the band between them of each ensemble."""
    every = in_order(results, results.get("certified", []))
    if not every:
        return
    names = list(dict.fromkeys(r["ensemble"] for r in every))
    looks = numbered(names, "c")
    x = budgets((r["eps"] for r in every), f"perturbation budget eps ({every[0]['norm']}); 0 = clean")
    y = shares("accuracy (%)")
    alt = "Certified floor and attacked ceiling against the perturbation budget, a band per ensemble."
    shown = [_panel(every, looks, x, y, alt)]
    legend = [("Ensemble", [Entry(swatch(look), name, look.keys[0]) for name, look in looks.items()])]
    note = "Upper line: worst case of the attacks; lower line, dashed: certified; between them neither settles."
    yield Chart(NAME, NAME, TITLE, alt, shown, legend, shown=[NAME], note=note)


def _panel(every: list[CertifiedResult], looks: dict[str, Series], x: Axis, y: Axis, alt: str) -> Panel:
    bands, lines, points = [], [], []
    for name, look in looks.items():
        own = sorted((r for r in every if r["ensemble"] == name), key=lambda r: r["eps"])
        eps = [0.0, *(r["eps"] for r in own)]
        low, high = (list(zip(eps, end, strict=True)) for end in ends(own))
        bands.append(band(low, high, look))
        dashed = Series(f"{name}, certified", look.colour, 1, look.shape, False, look.keys)
        lines += [curve(line(high), look), curve(line(low), dashed)]
        made = []
        for r in own:
            said = sentence(r)
            if r["ceiling"] is not None:
                made.append(marker(x, y, (r["eps"], r["ceiling"]), look, said))
            at = f"{name}, eps {budget_text(r['eps'], r['norm'])}: certified {f.percent(r['floor'])} %"
            made.append(marker(x, y, (r["eps"], r["floor"]), dashed, at))
        points.append(markers(look, made))
    return panel(NAME, TITLE, alt, x, y, [*bands, *lines], points, "tall")

"""Robust accuracy against eps: colour and marker = ensemble, dash = attack, filling of the marker = verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from robustkit.records.schema import ORDER, Results, Verdict
from robustkit.reports import _format as f
from robustkit.reports._charts._axis import budgets, shares
from robustkit.reports._charts._chart import Chart, Entry, Panel
from robustkit.reports._charts._marks import NO_COLOUR, SHOWN, Series, band, curve, marker, markers, numbered, swatch
from robustkit.reports._charts._panel import panel
from robustkit.reports._charts._svg import line
from robustkit.reports._curves import WORST, Point, clean_points, curve_points
from robustkit.reports._floors import PROVEN, Floor, Floors, floor_points
from robustkit.reports._labels import budget_text, groups_of
from robustkit.reports._table import Cell, Table, cells

Curves = dict[tuple[str, str, str], list[Point]]  # by norm, attack and ensemble
NAME = "robust-accuracy"


def curves(results: Results) -> Iterator[Chart]:
    """Yield the curves of every norm, a panel each, where an ensemble of the run was attacked.

    Bands are Wilson 95 % intervals; in a study over seeds a curve is their mean, and its band one standard deviation
    to both sides. A curve starts at eps 0 with the clean accuracy if it has a number at the smallest eps. Certified
    floors are curves beside them, and what lies between one and the ceiling of its samples is a band.
    """
    found, clean, floors = curve_points(results), clean_points(results), floor_points(results)
    if not found:
        return
    norms = sorted({norm for norm, _, _ in found}, key=lambda norm: (norm != "linf", norm))
    looks = _looks(found, list(clean))
    proven = {one: replace(looks[of], name=f"{one}, {PROVEN}", dash=1, heavy=False, keys=(looks[of].keys[0], "af"))
              for _, one in floors for of in looks if of[1] == one}  # fmt: skip
    said = "standard deviation over seeds" if groups_of(results) else "Wilson 95 % interval"
    verdicts = {p.verdict for points in found.values() for p in points if p.verdict}
    alt = "Robust accuracy against the perturbation budget, a curve per ensemble and attack."
    yield Chart(
        NAME, "curves", "Robust accuracy against the perturbation budget", alt,
        [_panel(norm, {k: v for k, v in found.items() if k[0] == norm}, clean, looks, alt,
                {proven[one]: points for (of, one), points in floors.items() if of == norm and one in proven})
         for norm in norms],
        _legend(looks, verdicts, bool(proven)), [_table(found, clean, floors)],
        note=f"Band: {said}." + (" Between floor and ceiling: settled by neither." if proven else ""),
    )  # fmt: skip


def _looks(found: Curves, ensembles: Sequence[str]) -> dict[tuple[str, str], Series]:
    """Return how the curve of each attack on each ensemble looks."""
    attacks = list(dict.fromkeys(attack for _, attack, _ in found if attack != WORST))
    of, by = numbered(ensembles, "e"), numbered(attacks, "a")
    looks = {}
    for _, attack, one in found:
        dash, key = (0, "aw") if attack == WORST else (by[attack].colour % 6 + 1, f"a{attacks.index(attack)}")
        look = of[one]
        looks[attack, one] = Series(
            f"{one}, {attack}", look.colour, dash, look.shape, attack == WORST, (*look.keys, key)
        )
    return looks


def _panel(
    norm: str, here: Curves, clean: dict[str, Point], looks: dict[tuple[str, str], Series], alt: str,
    floors: Mapping[Series, Sequence[Floor]],
) -> Panel:  # fmt: skip
    x = budgets((p.eps for points in here.values() for p in points), f"perturbation budget eps ({norm}); 0 = clean")
    y = shares("accuracy (%)")
    first = min(point.eps for points in here.values() for point in points)
    thick = any(attack == WORST for _, attack, _ in here)
    bands, lines, points = [], [], []
    for (_, attack, one), measured in here.items():
        look = looks[attack, one]
        whole = [*([clean[one]] if measured[0].eps <= first else []), *measured]
        if look.heavy or not thick:  # the bands of all curves would hide each other
            low, high = ([(p.eps, p.ci95[end]) for p in whole if p.ci95] for end in (0, 1))
            bands.append(band(low, high, look))
        lines.append(curve(line((p.eps, p.share) for p in whole), look))
        made = [marker(x, y, (p.eps, p.share), look, _said(p, look.name, norm), p.verdict) for p in whole]
        points.append(markers(look, made))
    for look, own in floors.items():
        bands.append(band([(p.eps, p.low) for p in own], [(p.eps, p.high) for p in own], look))
        lines.append(curve(line((p.eps, p.low) for p in own), look))
        made = [
            marker(x, y, (p.eps, p.low), look, f"{look.name}, eps {budget_text(p.eps, norm)}: {_proven(p)}")
            for p in own[1:]
        ]
        points.append(markers(look, made))
    return panel(f"{NAME}-{norm}", f"Robust accuracy, {norm}", alt, x, y, [*bands, *lines], points, "tall")


def _said(p: Point, name: str, norm: str) -> str:
    """Return what a marker says."""
    where = f"eps {budget_text(p.eps, norm)}" if p.eps else "clean"
    return f"{name}, {where}: {_share(p)}" + (f", {p.verdict}" if p.verdict else "")


def _proven(p: Floor) -> str:
    return f"{f.percent(p.low)} %, neither settles {p.unsettled} %"


def _share(p: Point) -> str:
    return f"{f.percent(p.share)} %" + (f" {f.interval(p.ci95)}" if p.ci95 else "")


def _legend(
    looks: Mapping[tuple[str, str], Series], verdicts: set[Verdict], proven: bool
) -> list[tuple[str, list[Entry]]]:
    """Return what colour, dash and marker mean, by heading."""
    ensembles, attacks = dict[str, Entry](), dict[str, Entry]()
    for (attack, one), look in sorted(looks.items(), key=lambda item: (item[1].colour, not item[1].heavy)):
        ensembles[one] = Entry(swatch(replace(look, dash=0, heavy=False)), one, look.keys[0])
        attacks[attack] = Entry(swatch(replace(look, colour=NO_COLOUR), marked=False), attack, look.keys[1])
    if proven:
        attacks[PROVEN] = Entry(swatch(Series("", NO_COLOUR, 1), marked=False), PROVEN, "af")
    marks = [
        Entry(swatch(Series("", NO_COLOUR), lined=False, verdict=verdict), SHOWN[verdict])
        for verdict in ORDER
        if verdict in verdicts
    ]
    parts = {"Ensemble": list(ensembles.values()), "Attack": list(attacks.values()), "Verdict": marks}
    return [(title, part) for title, part in parts.items() if part]


def _table(found: Curves, clean: Mapping[str, Point], floors: Floors) -> Table:
    """Return a row for each curve, a column for each budget."""
    budgets_of = sorted({(norm != "linf", norm, p.eps) for (norm, _, _), points in found.items() for p in points})
    columns = ["ensemble", "attack", "clean", *(budget_text(eps, norm) for _, norm, eps in budgets_of)]
    rows = []
    of = list(dict.fromkeys((one, attack) for _, attack, one in found))
    ensembles = [one for one, _ in of]
    for one, attack in sorted(of, key=lambda pair: ensembles.index(pair[0])):  # the rows of an ensemble together
        at = {(norm, p.eps): p for (norm, *by), points in found.items() if by == [attack, one] for p in points}
        there = [at.get((norm, eps)) for _, norm, eps in budgets_of]
        rows.append([*cells(one, attack, _share(clean[one])), *(_cell(p) for p in there)])
    for one in dict.fromkeys(one for _, one in floors):
        low = {(norm, p.eps): p for (norm, other), own in floors.items() if other == one for p in own}
        proven = [low.get((norm, eps)) for _, norm, eps in budgets_of]
        rows.append([*cells(one, PROVEN, f.NONE), *(Cell(_proven(p) if p else f.NONE) for p in proven)])
    note = "Accuracy in %, at each eps."
    return Table(NAME, "The numbers of the curves", columns, "ll" + "r" * (len(columns) - 2), rows, note, 2, True)


def _cell(p: Point | None) -> Cell:
    return Cell(_share(p), p.verdict) if p else Cell(f.NONE)

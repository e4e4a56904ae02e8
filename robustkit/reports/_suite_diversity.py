"""Diversity in a report: tables of measures, pair matrices, cosines, CKA maps, and a gallery from the store."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from robustkit.records.schema import Results
from robustkit.records.schema_members import DiversityResult, PairMeasure
from robustkit.records.store import Store
from robustkit.reports import _diversity_maps, _diversity_sheet
from robustkit.reports import _format as f
from robustkit.reports._drawing import Drawing
from robustkit.reports._labels import in_order
from robustkit.reports._suites import Sheet
from robustkit.reports._table import Cell, Table, cells
from robustkit.study.plan import Study

# Measure of a record: what a table calls it, its unit, and which way is more diverse.
PAIRS = {
    "oracle-disagreement": ("oracle disagreement", "%", "high"),
    "label-disagreement": ("label disagreement", "%", "high"),
    "q-statistic": ("Q", "", "low"),
    "correlation": ("correlation of errors", "", "low"),
    "double-fault": ("double fault", "%", "low"),
    "error-ratio": ("different / same errors", "", "high"),
    "label-mutual-information": ("MI of labels", "nats", "low"),
}
OTHERS = {
    "mutual_information": ("MI of probabilities", "nats", "high"),
    "equitability_right": ("equitability, right", "", "high"),
    "equitability_wrong": ("equitability, wrong", "", "high"),
    "ed": ("ED", "", "high"),
    "log_ed": ("log ED", "nats", "high"),
}
VARIANCES = {
    "saliency_variance": ("saliency variance", "logit^2", "high"),
    "saliency_variance_normalised": ("saliency variance, unit", "", "high"),
    "integrated_variance": ("IG variance", "logit^2", "high"),
    "integrated_variance_normalised": ("IG variance, unit", "", "high"),
}
FEW = 30  # wrong answers, below which a report warns
Row = tuple[str, str, str, float | None]  # name, unit, which way is more diverse, value


def tables(results: Results) -> Iterator[Table]:
    """Yield the measures, an ensemble per column, then those of each pair of members, then the layers."""
    found = in_order(results, results["diversity"])
    columns = {r["ensemble"]: list(measures(r)) for r in found}
    rows = []
    for at, (name, unit, way, _) in enumerate(next(iter(columns.values()), [])):
        values = [_cell(column[at]) for column in columns.values()]
        rows.append([*cells(f"{name} [{unit}]" if unit else name, way), *values])
    records = [
        {"ensemble": ensemble, "measure": name, "unit": unit, "more_diverse": way, "value": value}
        for ensemble, column in columns.items() for name, unit, way, value in column
    ]  # fmt: skip
    align = "ll" + "r" * len(columns)
    head = ["measure", "more diverse", *columns]
    yield Table("diversity", "Diversity of the members", head, align, rows, _note(found), 2, records=records)
    yield _pairs(found)
    yield _layers(found)


def measures(r: DiversityResult) -> Iterator[Row]:
    """Yield every measure of an ensemble, in reading order; all ensembles have the same, some of them None."""
    own = r["member_accuracy"]
    yield "ensemble accuracy", "%", "", r["accuracy"]
    yield "member accuracy", "%", "", sum(own) / len(own) if own else None
    means = {m["name"]: math.inf if m["mean"] is None and m["infinite"] else m["mean"] for m in r["pairwise"]}
    for key, what in PAIRS.items():
        yield *what, means.get(key)
    for key, what in OTHERS.items():
        yield *what, r[key]  # type: ignore[literal-required]
    maps = r["attributions"]
    cosines = {c["maps"]: c["mean"] for c in maps["cosines"]} if maps else {}
    yield "GradCAM cosine", "", "low", cosines.get("gradcam")
    yield "saliency cosine", "", "low", cosines.get("saliency")
    for key, what in VARIANCES.items():
        yield *what, maps[key] if maps else None  # type: ignore[literal-required]
    yield "CKA, same layer", "", "low", _mean([pair["same_layer"] for pair in r["layers"]])
    yield "CKA, last layer", "", "low", _mean([pair["last"] for pair in r["layers"]])


def drawings(results: Results) -> Iterator[Drawing]:
    """Yield pair matrices, distributions of cosines, and a CKA map for each ensemble."""
    found = [r for r in in_order(results, results["diversity"]) if r["members"] > 1]
    if any(r["pairwise"] for r in found):
        alt = "Heatmaps of every pairwise measure between members, a row per ensemble."
        figure = _diversity_maps.pair_matrices(found, PAIRS)
        yield Drawing("diversity-pairs", alt, figure, "diversity")
    if any(r["attributions"] for r in found):
        alt = "Distributions of the cosines between members' GradCAM and saliency maps, a curve per ensemble."
        yield Drawing("diversity-cosines", alt, _diversity_maps.cosines(found), "diversity")
    taken = set[str]()
    for r in found:
        if r["layers"]:
            alt = f"{r['ensemble']}: linear CKA between the layers of its members."
            name = f.unique(f.slug("diversity-cka", r["ensemble"]), taken)
            yield Drawing(name, alt, _diversity_maps.layers(r), "diversity")


def sheets(results: Results) -> list[Sheet]:
    """Return the gallery of each ensemble."""
    return [_sheet(r["ensemble"]) for r in in_order(results, results["diversity"])]


def sheets_of(study: Study, store: Store) -> Iterator[tuple[Sheet, Drawing]]:
    """Draw the gallery of each ensemble whose maps were kept."""
    for ensemble, figure in _diversity_sheet.galleries(study, store):
        sheet = _sheet(ensemble)
        yield sheet, Drawing(sheet.file.stem, sheet.alt, figure, "diversity")


def _sheet(ensemble: str) -> Sheet:
    file = Path("figures") / f"{f.slug('diversity-gallery', ensemble)}.png"
    alt = f"{ensemble}: images with the GradCAM and the saliency map of each member beside them."
    return Sheet(f"{ensemble}: where its members look", alt, file)


def _pairs(found: list[DiversityResult]) -> Table:
    rows, records = [], []
    for r in found:
        matrices = [(PAIRS[m["name"]][1], m["name"], with_infinite(m)) for m in r["pairwise"]]
        if r["attributions"]:
            matrices += [("", f"{c['maps']}-cosine", c["matrix"]) for c in r["attributions"]["cosines"]]
        values = {name: (unit, matrix) for unit, name, matrix in matrices}
        for i in range(r["members"]):
            for j in range(i + 1, r["members"]):
                at = {name: (unit, matrix[i][j]) for name, (unit, matrix) in values.items()}
                texts = [_text(*at[name]) if name in at else f.NONE for name in _PAIR_COLUMNS]
                rows.append(cells(r["ensemble"], f"{i}, {j}", *texts))
                records.append(
                    {
                        "ensemble": r["ensemble"],
                        "member": i,
                        "other": j,
                        **{n: at[n][1] if n in at else None for n in _PAIR_COLUMNS},
                    }
                )
    columns = ["ensemble", "members", *_PAIR_COLUMNS.values()]
    note = "Shares in %, MI in nats; cosines are means over samples."
    align = "ll" + "r" * len(_PAIR_COLUMNS)
    return Table("diversity-pairs", "Pairs of members", columns, align, rows, note, 2, True, records)


def with_infinite(measure: PairMeasure) -> list[list[float | None]]:
    """Return the matrix of a measure, with infinity where JSON, which has none, says so in words."""
    infinite = {frozenset(pair) for pair in measure["infinite"]}
    return [
        [math.inf if frozenset((i, j)) in infinite else value for j, value in enumerate(row)]
        for i, row in enumerate(measure["matrix"])
    ]


_PAIR_COLUMNS = {
    **{key: f"{name} %" if unit == "%" else name for key, (name, unit, _) in PAIRS.items()},
    "gradcam-cosine": "GradCAM cosine",
    "saliency-cosine": "saliency cosine",
}


def _layers(found: list[DiversityResult]) -> Table:
    rows, records = [], []
    for r in found:
        for pair in r["layers"]:
            i, j = pair["members"]
            first, second = pair["layers"]
            numbers = map(f.number, (pair["same_layer"], pair["last"]))
            rows.append(cells(r["ensemble"], f"{i}, {j}", f"{len(first)} x {len(second)}", *numbers))
            records += [
                {"ensemble": r["ensemble"], "member": i, "other": j, "layer": a, "other_layer": b, "cka": value}
                for a, line in zip(first, pair["matrix"], strict=True) for b, value in zip(second, line, strict=True)
            ]  # fmt: skip
    columns = ["ensemble", "members", "layers", "same layer, mean", "last layer"]
    note = "Linear CKA: 1 is equal up to rotation and scale, 0 unrelated. The CSV file has every pair of layers."
    return Table("diversity-cka", "CKA between layers", columns, "lllrr", rows, note, 2, True, records)


def _note(found: list[DiversityResult]) -> str:
    notes = [
        "Means over pairs of members, of the errors the ratio of sums; over samples where a measure is per sample."
    ]
    for r in found:
        maps = r["attributions"]
        if maps:
            notes.append(
                f"Maps of the predicted class on {maps['samples']} images, integrated gradients in {maps['steps']} "
                f"steps; CKA on {r['layer_samples']}."
            )
            break
    few = [f"{r['wrong']} ({r['ensemble']})" for r in found if r["pairwise"] and r["wrong"] < FEW]
    if few:
        notes.append(f"Wrong answers: {', '.join(few)}; measures of errors rest on these few.")
    notes += [f"{r['ensemble']}: {note}" for r in found for note in r["notes"]]
    return " ".join(notes)


def _cell(row: Row) -> Cell:
    text = _text(row[1], row[3])
    return Cell(text, number=f.as_number(text))


def _text(unit: str, value: float | None) -> str:
    return f.percent(value) if unit == "%" else f.number(value)


def _mean(values: list[Any]) -> float | None:
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers else None

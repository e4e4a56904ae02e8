"""The page and the tables of a comparison of stored evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from robustkit.base.configuration import takes
from robustkit.base.files import listed, writable
from robustkit.base.options import budget_text, some_of
from robustkit.comparison import comparing, differing, seeds
from robustkit.comparison.comparing import Model
from robustkit.comparison.reading import StoredEvaluation, read_all
from robustkit.functional.stats import wilson_of
from robustkit.records.schema_comparison import Comparison
from robustkit.reports import _comparisons
from robustkit.reports import _format as f
from robustkit.reports._across import united
from robustkit.reports._checks import WORST as CASE
from robustkit.reports._checks import anchor, headline_budget
from robustkit.reports._files import write_text
from robustkit.reports._labels import labeller
from robustkit.reports._page.entries import Judged
from robustkit.reports._page.layout import Section, of_table, page, part
from robustkit.reports._page.sections import of_numbers
from robustkit.reports._table import Table, cells
from robustkit.reports._tables import share
from robustkit.reports._tex_best import CLEAN, RULE, Doubles, Places, by_samples, in_columns
from robustkit.reports._tex_best import SAMPLES as BY_SAMPLES
from robustkit.study.config import CompareConfig

FORMATS = ("html", "md", "tex", "tex-each", "csv")

WORST, UNITED = "worst case % at ", "robust to all % at "


@dataclass(frozen=True)
class ComparedEvaluations:
    """Evaluations and their models, every comparison with the first model, and the tables in reading order."""

    evaluations: list[StoredEvaluation]
    models: list[Model]
    comparisons: list[Comparison]
    tables: list[Table]

    @property
    def takeaway(self) -> list[str]:
        """The worst case of each model beside the first's, in a sentence; clean accuracy where nothing was attacked.

        At the budget that the report of the first evaluation quotes; at the largest where nothing is compared there. Of
        several norms who withstands all of them, too, at the largest budgets that both ran.
        """
        worst = [row for row in self.comparisons if row["number"] == "worst_case"]
        there = {(row["eps"] or 0.0, row["norm"] or "") for row in worst}
        at = headline_budget(self.evaluations[0].numbers)
        if there and at not in there:
            at = max(there)
        largest = {r["ensemble"]: r for r in self.comparisons if r["number"] == "union"}
        quoted = [r for r in worst or self.comparisons if not worst or (r["eps"], r["norm"]) == at]
        return [_sentence(r) for r in (*quoted, *largest.values())]


def compared(paths: Sequence[Path | str]) -> ComparedEvaluations:
    """Read stored evaluations and compare every model with the first.

    Raises
    ------
    UserError
        If one cannot be read, or they cannot be compared.
    RunError
        If runs are missing.
    """
    evaluations = read_all(paths)
    models = comparing.models_of(evaluations)
    comparing.check(evaluations, models)
    rows = comparing.rows(models)
    every = {**evaluations[0].numbers, "evaluations": [e for one in evaluations for e in one.numbers["evaluations"]]}
    label = labeller(every)  # type: ignore[arg-type]
    first = [row for row in rows if row["number"] != "attack"]
    second = [row for row in rows if row["number"] == "attack"]
    tables = [
        numbers(models), _comparisons.table(first, label), seeds.table(models, label), differing.table(evaluations),
        _comparisons.table(second, label, "comparisons-attacks", "Under each attack, differences from"),
    ]  # fmt: skip
    return ComparedEvaluations(evaluations, models, rows, [table for table in tables if table.rows])


@takes(CompareConfig)
def compare(config: CompareConfig) -> list[Comparison]:
    """Put stored evaluations side by side, image by image, and write the page and tables.

    Returns
    -------
    list of Comparison
        Every number of every model beside that of the first, with paired intervals and tests.

    Raises
    ------
    UserError
        If one cannot be read, or they cannot be compared: other test images, other classes, no common eps.
    RunError
        If runs are missing.
    """
    return run(config)[0].comparisons


def run(config: CompareConfig) -> tuple[ComparedEvaluations, list[Path]]:
    """Compare stored evaluations and write what was asked for; return the comparison and the files, the page first."""
    formats = some_of(config.formats, "format", FORMATS)
    found = compared(listed(config.paths))
    return found, write(found, Path(config.out), formats, marks=config.marks)


def numbers(models: Sequence[Model]) -> Table:
    """Return each model's own numbers with their verdicts: clean, at worst at every budget of any, in all norms."""
    budgets = sorted({at for model in models for at in model.worst})
    unions = list(dict.fromkeys(text for model in models for text in model.unions))
    rows, records = [], []
    for model in models:
        data, e = model.evaluation.numbers["dataset"], model.ensemble
        clean = f"{f.percent(e['accuracy'])} {f.interval(wilson_of(e['accuracy'], data['n']))}"
        found = [model.worst.get(at) for at in budgets]
        shares = [share(worst, model.name) for worst in found]
        shares += [united(model.unions.get(text)) for text in unions]
        rows.append([*cells(model.name, f"{e['members']} x {e['arch']}", clean), *shares])
        records += [
            {"model": model.name, "evaluation": model.evaluation.name, "clean_accuracy": e["accuracy"],
             "eps": w["eps"], "norm": w["norm"], "worst_case": w["robust_accuracy"], "verdict": w["verdict"]}
            for w in found if w
        ]  # fmt: skip
        records += [
            {"model": model.name, "evaluation": model.evaluation.name, "clean_accuracy": e["accuracy"], "eps": None,
             "norm": text, "worst_case": u["robust_accuracy"], "verdict": u["verdict"]}
            for text, u in model.unions.items()
        ]  # fmt: skip
    columns = ["model", "members", "clean %", *(f"{WORST}{budget_text(eps, norm)}" for norm, eps in budgets)]
    columns += [f"{UNITED}{text}" for text in unions]
    note = f"With Wilson 95 % interval. Verdicts, each of the version that gave it: {f.LEGEND}."
    return Table("models", "Models", columns, "ll" + "r" * (len(columns) - 2), rows, note, records=records)


def write(found: ComparedEvaluations, out: Path, formats: Sequence[str], *, marks: bool = True) -> list[Path]:
    """Write ``compare.html`` and the tables below ``out``; return the files, the page first."""
    from robustkit.reports.csv_tables import comma_separated
    from robustkit.reports.md import markdown
    from robustkit.reports.tex import Style, write_each, write_tables

    folder = writable(out, "--out")
    written = []
    if "html" in formats:
        data = found.evaluations[0].numbers["dataset"]
        text = page(
            "compare.html.j2", f"Robustness compared: {data['name']}", _sections(found), found=found,
            takeaway=found.takeaway, data=data,
        )  # fmt: skip
        written.append(write_text(folder / "compare.html", text))
    ways = {"md": markdown, "csv": comma_separated}
    for name, way in ways.items():
        if name in formats:
            written += [write_text(folder / "tables" / f"{table.name}.{name}", way(table)) for table in found.tables]
    for name, writer in {"tex": write_tables, "tex-each": write_each}.items():
        if name in formats:
            style = Style(marks, *_best(found))
            written += writer(found.tables, found.evaluations[0].numbers, folder, style)
    return written


def _best(found: ComparedEvaluations) -> tuple[dict[str, Places], dict[str, str]]:
    """Return the bold cells of the table of models and the rule for it."""
    table, models = found.tables[0], found.models
    budgets = {(norm, eps): (budget_text(eps, norm),) for model in models for norm, eps in model.worst}
    scores: dict[tuple[str, ...], dict[str, Doubles]] = {CLEAN: {model.name: model.outcomes.clean for model in models}}
    for at, key in budgets.items():
        scores[key] = {model.name: model.outcomes.worst[at] for model in models if at in model.outcomes.worst}
    for model in models:
        for text, u in model.unions.items():
            if (right := model.outcomes.united(u["budgets"])) is not None:
                scores.setdefault((UNITED + text,), {})[model.name] = right
    keys = {
        at: (head.removeprefix(WORST),) for at, head in enumerate(table.columns) if head.startswith((WORST, UNITED))
    }
    places = in_columns(table, {table.columns.index("clean %"): CLEAN, **keys}, scores, by_samples)
    return {table.name: places}, {table.name: RULE.format(line="column", test=BY_SAMPLES)}


def _sections(found: ComparedEvaluations) -> list[Section]:
    """Return the parts of the page: what is quoted unfolded, what differs between the evaluations, what it says."""
    made = [of_table(t, unfolded=not t.name.endswith("-attacks")) for t in found.tables]
    if all(section.id != "differences-of-set-up" for section in made):
        nothing = part("_text.html.j2", text="Nothing but the models.")
        made.append(Section("differences-of-set-up", "What differs", nothing, unfolded=True))
    made.append(of_numbers([
        Judged(model.name, CASE, worst, anchor(worst, model.name))
        for model in found.models for worst in model.worst.values()
    ]))  # fmt: skip
    return [*made, Section("what-this-says", "What this says", part("_compare_words.html.j2"), unfolded=True)]


def _sentence(row: Comparison) -> str:
    if row["number"] == "union":
        what = f"robust to all of {row['norm']}"
    elif row["eps"] is None:
        what = "right on clean images"
    else:
        what = f"left by every attack at eps {budget_text(row['eps'], row['norm'])}"
    return (
        f"{row['ensemble']}: {f.percent(row['accuracy'])} % {what}, {row['reference']} "
        f"{f.percent(row['reference_accuracy'])} %: {_comparisons.told_text(row)}"
    )

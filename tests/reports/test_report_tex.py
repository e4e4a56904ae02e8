"""LaTeX tables: the numbers are those of the results, aligned, marked, bold where a test says so; they compile."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import latex_reader as reader
import numpy as np
import pytest
from latex_engine import ENGINES, compiled

from robustkit.records.outcomes import SampleOutcomes
from robustkit.records.schema import Results
from robustkit.reports import _format as f
from robustkit.reports import write
from robustkit.reports._checks import runs_of
from robustkit.reports._sample_arrays import SampleTable, write_arrays
from robustkit.reports._samples import write_samples
from robustkit.reports._table import Cell, Table, cells
from robustkit.reports._tables import find
from robustkit.reports._tables import tables as tables_of
from robustkit.reports._tex_best import _of_samples, best, by_samples, winners
from robustkit.reports._tex_layout import LINES, PAGE, head_lines, layout, width
from robustkit.reports._tex_numbers import aligned
from robustkit.reports._tex_text import escape
from robustkit.reports.tex import Style, latex

ODD = 'a_b & 5 % {c}\\d ~^<>|"`# $x$ café ± 3 × ε ≤ Ω → Łódź żółć ğ Ş ąę 猫 🐈 L∞ x₂ “q” – … ΑΒ'


def whole(results: Results, tmp_path: Path, **settings: Any) -> str:
    assert write(results, tmp_path, ["tex"], **settings) == [tmp_path / "tables" / "tables.tex"]
    return (tmp_path / "tables" / "tables.tex").read_text("utf-8")


def test_every_number_is_that_of_the_results(results: Results, tmp_path: Path) -> None:
    found = reader.tables(whole(results, tmp_path))
    (robust,), (worst,) = found["robustness"], found["worst-case"]
    assert robust[0] == ["eps", "attack", "baseline", "adp", "adp - baseline"]
    by = {(row[0], row[1], name): text for row in robust[1:] for name, text in zip(robust[0][2:], row[2:], strict=True)}
    assert len(by) == 12 * 3
    from robustkit.reports._labels import labeller

    label = labeller(results)
    for e in results["evaluations"]:
        low, high = e["ci95"]
        said = f"{100 * e['robust_accuracy']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
        assert by[f.eps_text(e["eps"]), label(e), e["ensemble"]] == said
    lines = {row[0]: dict(zip(worst[0], row, strict=True)) for row in worst[1:]}
    for w in results["worst_case"]:
        assert lines[f.eps_text(w["eps"])][w["ensemble"]].startswith(f"{100 * w['robust_accuracy']:.1f} [")
    for t in results["transfer"]:
        name = next(n for n in found if n.startswith(f"transfer-{t['ensemble']}") and n.endswith(f"-{t['metric']}"))
        (part,) = found[name]
        assert [row[1:] for row in part[1:]] == [[f"{100 * value:.1f}" for value in row] for row in t["matrix"]]


def test_what_every_table_shows_is_what_other_formats_show(results: Results, tmp_path: Path) -> None:
    """Cells of whatever part, against those of Markdown, marks and notation of eps, norms and powers aside."""
    found = reader.tables(whole(results, tmp_path, marks=False))
    for table in tables_of(results):
        parts, texts = found[table.name], {cell.text for row in table.rows for cell in row if cell.number}
        seen = {text for part in parts for row in part[1:] for text in row}
        assert texts <= seen, table.name


def test_the_text_is_sound(results: Results, tmp_path: Path) -> None:
    for e in results["ensembles"]:
        e["arch"] = ODD
    text = whole(results, tmp_path)
    assert reader.problems(text) == []
    assert reader.problems(text.replace(r"\%", "%", 1)) == ["% begins a comment"]  # the check can fail
    assert reader.problems(text.replace(" & ", " ", 1)) != []
    assert reader.problems(text.replace(r"\end{minipage}", "", 1)) != []
    assert re.findall(r"\\begin\{table\*?\}(\[\w+\])", text).count("[t]") > 10


def test_marks_are_explained_below_or_left_out(results: Results, tmp_path: Path) -> None:
    text = whole(results, tmp_path)
    assert r"44.8 [40.8, 48.8]\rlap{$^{\ddagger}$}" in text
    assert r"71.4 [67.4, 75.4]\rlap{$^{\S}$}" in text
    said = (
        r"$\ddagger$ suspect (failed: iterations-suffice); $\S$ invalid (failed: finite-gradients); unmarked: trusted."
    )
    assert said in text
    assert f.LEGEND not in text
    bare = whole(results, tmp_path / "bare", marks=False)
    assert not re.search(r"ddagger|\\S|rlap|unmarked", bare)
    assert reader.tables(bare) == reader.tables(text)


def test_captions_say_data_budgets_and_attacks(results: Results, tmp_path: Path) -> None:
    said = (
        r"\caption{Worst case over all attacks. Data: digits, test split, $n = 500$. Budgets: $\ell_\infty$, "
        r"$\varepsilon \in \{4/255, 8/255, 0.05\}$. Attacks, with their steps: "
        r"pgd-10; pgd-100; mim-10; fgsm, targeted.}"
    )
    assert said in whole(results, tmp_path)


def test_single_files_on_request_and_old_ones_are_kept_up_to_date(results: Results, tmp_path: Path) -> None:
    assert len(write(results, tmp_path, ["tex-each"])) == len(tables_of(results))
    assert not (tmp_path / "tables" / "tables.tex").exists()
    single = tmp_path / "tables" / "worst-case.tex"
    before = single.read_text()
    assert r"\label{tab:worst-case}" in before
    assert reader.problems(before) == []
    for path in (tmp_path / "tables").iterdir():
        path.unlink() if path != single else None
    results["worst_case"][0]["robust_accuracy"] = 0.123
    assert write(results, tmp_path, ["tex"]) == [tmp_path / "tables" / "tables.tex", single]
    assert "12.3 [" in single.read_text()


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["5.2 [1.2, 9.2]", "44.8 [40.8, 99.0]"], [r"5.2 [\phantom{0}1.2, \phantom{0}9.2]", "44.8 [40.8, 99.0]"]),
        (["+1.0", "-12.25", "-"], [r"$+$1.0\phantom{0}", "$-$12.25", r"--\phantom{.00}"]),
        (["9.0 ± 0.5", "99.0 ± 10.5"], [r"9.0\,$\pm$\,\phantom{0}0.5", r"99.0\,$\pm$\,10.5"]),
        (["<.001*", ".012"], [r"$<$.001\rlap{*}", ".012"]),
        (["142 : 80", "1 : 7"], [r"142\,:\,80", r"1\,:\,\phantom{0}7"]),
        (["1e-09", "0.5"], [r"$1\times10^{-9}$", "0.5"]),
        (["1,234,567", "12"], ["1{,}234{,}567", "12"]),
        (["0.12 / -0.05", "nan / nan"], ["0.12 / $-$0.05", "nan / nan"]),
    ],
)
def test_numbers_are_aligned(texts: list[str], expected: list[str]) -> None:
    assert aligned(texts) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ε ≤ Ω", r"$\varepsilon$ $\leq$ $\Omega$"), ("café Łódź", r"caf\'{e} \L{}\'{o}d\'{z}"), ("ΑΒο", "ABo"),
        ("猫", r"\ifdefined\Umathchar 猫\else [U+732B]\fi{}"), ("ąę", r"\ifdefined\Umathchar ąę\else ae\fi{}"),
        ("--set a_b=-0.5", r"-{}-set a\_b=$-$0.5"), ("adp - base", r"adp $-$ base"), ("pgd-10", "pgd-10"),
        ("3 x lenet, 32x32", r"3 $\times$ lenet, 32$\times$32"), ("2e-05", r"$2\times10^{-5}$"), ("x\n\ty", "x y"),
    ],
)  # fmt: skip
def test_texts_are_escaped(text: str, expected: str) -> None:
    assert escape(text) == expected


def wide(columns: int, rows: int) -> Table:
    body = [[*cells(f"row {row}"), *[Cell(f"{row}.{at} [10.0, 20.0]") for at in range(columns)]] for row in range(rows)]
    return Table("wide", "Wide", ["what", *(f"c{at}" for at in range(columns))], "l" + "r" * columns, body)


def test_a_wide_and_long_table_is_cut_into_parts_that_fit() -> None:
    table = wide(14, 90)
    text = latex(table)
    assert reader.problems(text) == []
    parts = reader.tables(text)["wide"]
    assert len(parts) > 6
    seen: dict[str, dict[str, str]] = {}
    for part in parts:
        assert part[0][0] == "what"
        for row in part[1:]:
            seen.setdefault(row[0], {}).update(zip(part[0][1:], row[1:], strict=True))
    assert seen == {str(r[0]): {f"c{at}": cell.text for at, cell in enumerate(r[1:])} for r in table.rows}
    plan = layout(table)
    assert all(sum(part.lines for part in float_) <= LINES for float_ in plan.floats)
    assert text.count(r"\caption{") == len(plan.floats) == text.count(r"\addtocounter{table}{-1}") + 1
    assert text.count(r"\label{") == 1
    assert r"\begin{table*}" in text
    assert r"\begin{table}" in latex(wide(1, 3))


def test_words_wrap_where_there_is_no_room() -> None:
    long = "the quick brown fox jumps over the lazy dog " * 5
    table = Table("t", "T", ["what", "why"], "ll", [cells("short", long)])
    (float_,) = layout(table).floats
    room = float_[0].widths[1]
    assert float_[0].widths[0] is None
    assert room is not None
    assert 250 < room < PAGE
    assert rf"p{{{room:.0f}pt}}" in latex(table)
    assert head_lines("worst case % at 0.1", 0) == ["worst", "case %", "at", "0.1"]
    assert all(width(line) <= 60 for line in head_lines("a-very-long-name-of-some-checkpoint.pt", 60))


def test_a_row_that_starts_with_a_bracket() -> None:
    assert "\n{}[x] & " in latex(Table("t", "T", ["a", "b"], "ll", [cells("[x]", "y")]))


def scores(**right: int) -> dict[str, np.ndarray]:
    return {name: np.r_[np.ones(count), np.zeros(200 - count)] for name, count in right.items()}


def test_bold_is_the_highest_and_what_is_not_told_from_it() -> None:
    good, doubted = Cell("1", "trusted"), Cell("1", "suspect")
    found = scores(a=150, b=148, c=60)
    assert winners({"a": good, "b": good, "c": good}, found, by_samples) == {"a", "b"}
    assert winners({"a": good, "b": doubted, "c": good}, found, by_samples) == {"a"}
    assert winners({"a": doubted, "b": good, "c": good}, found, by_samples) == set()  # the highest may be no number
    assert winners({"a": good, "b": good}, found, by_samples) == set()  # all of them
    assert winners({"a": good, "c": good}, found, by_samples) == {"a"}
    assert winners({"a": good}, found, by_samples) == set()
    assert winners({"a": good, "z": good}, found, by_samples) == set()  # never measured
    assert winners({"a": good, "c": Cell(f.NONE), "b": good}, found, by_samples) == set()


def with_samples(results: Results, tmp_path: Path) -> None:
    """Write samples in which pgd-100 leaves adp half of what it is right on, and the baseline nothing."""
    lines = ["ensemble,id,label,clean_prediction,clean_broken,broken pgd-100 @ 4/255,broken pgd-100 @ 8/255"]
    for name, count in (("adp", 100), ("baseline", 0)):
        lines += [f"{name},{at},0,0,0,{int(at >= count + 50)},{int(at >= count)}" for at in range(200)]
    content = "\n".join(lines) + "\n"
    (tmp_path / "samples.csv").write_text(content)
    digest = hashlib.sha256(content.encode()).hexdigest()
    results["samples"] = {"file": "samples.csv", "sha256": digest, "rows": 400}


def test_bold_in_a_report_comes_from_its_samples(results: Results, tmp_path: Path) -> None:
    with_samples(results, tmp_path)
    text = whole(results, tmp_path)
    assert r"\textbf{11.6} [\phantom{0}7.6, 15.6]" in text  # pgd-100 at 8/255: 100 against 0 of 200
    assert r"\textbf{51.3} [47.9, 54.7]" in text  # the worst case at 4/255
    assert r"\textbf{8.7}" not in text  # suspect
    assert text.count(r"\textbf{") == 3  # and pgd-100 at 4/255
    assert text.count("Bold: the highest of a row") == 2
    assert text.count("Bold: the highest of a column") == 1  # clean: all the same, none bold
    (tmp_path / "samples.csv").write_text("something else")
    assert "textbf" not in whole(results, tmp_path)


def test_bold_is_the_same_of_arrays_and_of_rows(results: Results, tmp_path: Path) -> None:
    """Chances, another start of the same attack, and an attack that one ensemble did not meet."""
    random = np.random.default_rng(0)
    again = {**results["evaluations"][0], "robust_accuracy": 0.5, "ensemble": "adp"}
    results["evaluations"] = [e for e in results["evaluations"] if (e["ensemble"], e["attack"]) != ("adp", "mim")]
    results["evaluations"].append(again)  # type: ignore[arg-type]
    outcomes = []
    for place, e in enumerate(results["ensembles"]):
        many = len(runs_of(results, e["id"]))
        attacked = [np.round(np.clip(random.random(300) + 0.3 * place, 0, 1), 2) for _ in range(many)]
        clean = (random.random(300) < 0.9).astype(float)
        outcomes.append(
            SampleOutcomes(e["id"], np.arange(300), np.zeros(300, int), np.zeros(300, int), clean, attacked)
        )
    results["samples"] = write_samples(results, outcomes, tmp_path)
    rows = best(tables_of(results), results, tmp_path)
    scores = _of_samples(results, tmp_path)
    write_arrays(SampleTable(outcomes), results["samples"]["sha256"], tmp_path)
    (tmp_path / "samples.csv").unlink()  # the arrays are enough
    assert best(tables_of(results), results, tmp_path) == rows
    assert any(rows[0].values())
    arrays = _of_samples(results, tmp_path)
    assert {key: list(own) for key, own in arrays.items()} == {key: list(own) for key, own in scores.items()}
    for key, own in arrays.items():
        for name, right in own.items():
            np.testing.assert_allclose(right, scores[key][name], atol=1e-7)
    results["samples"]["sha256"] = "0" * 64  # of other results: nothing is bold
    assert best(tables_of(results), results, tmp_path) == ({}, {})


def test_formats_that_are_written_together_read_the_arrays_once(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results["samples"] = write_samples(results, [], tmp_path)
    write_arrays(SampleTable([]), results["samples"]["sha256"], tmp_path)
    read, real = [], np.load
    monkeypatch.setattr(np, "load", lambda *args, **settings: (read.append(args), real(*args, **settings))[1])
    write(results, tmp_path, ["tex", "tex-each", "html"])
    assert len(read) == 1


def test_bold_over_seeds(results: Results) -> None:
    def one(group: str, values: list[float]) -> dict[str, Any]:
        return {
            "group": group, "metric": "worst_case", "attack": "", "backend": "", "params": {}, "eps": 0.05,
            "norm": "linf", "targeted": False, "ensembles": [], "seeds": [0, 1, 2], "values": values,
        }  # fmt: skip

    results["over_seeds"] = [one("adp", [0.5, 0.52, 0.51]), one("baseline", [0.1, 0.11, 0.1])]
    table = find(tables_of({**results, "over_seeds": []}), "worst-case")  # type: ignore[typeddict-item]
    assert table is not None
    places, rules = best([table], results, Path("."))
    assert places["worst-case"] == {(2, 2)}
    assert "t test over seeds" in rules["worst-case"]


def test_a_column_of_a_page_by_itself(results: Results) -> None:
    table = find(tables_of(results), "worst-case")
    assert table is not None
    text = latex(table, results, Style(bold={"worst-case": frozenset({(0, 1)})}, rules={"worst-case": "5 % rule"}))
    assert r"\textbf{48.0}" in text
    assert r"5 \% rule" in text


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("options", ["", "twocolumn"])
def test_all_tables_compile(results: Results, tmp_path: Path, engine: str, options: str) -> None:
    for e in results["ensembles"]:
        e["arch"] = ODD
        e["member_accuracy"] = [0.5] * 40
    with_samples(results, tmp_path)
    write(results, tmp_path, ["tex", "tex-each"])
    (tmp_path / "tables" / "long.tex").write_text(latex(wide(14, 90)))
    over = compiled(engine, tmp_path, [f"tables/{name}" for name in ("tables", "long", "checks")], options)
    assert over == [] or options  # captions are narrow in two columns

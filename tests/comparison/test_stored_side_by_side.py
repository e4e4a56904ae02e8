"""Stored evaluations side by side: what is compared, what is refused, what is said to differ."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process import invoke
from scipy import stats as scipy_stats
from statsmodels.stats import multitest
from stored import bits, changed, evaluation, some

from robustkit import api
from robustkit.base.errors import UserError
from robustkit.base.files import write_json
from robustkit.comparison import page
from robustkit.comparison.page import compared
from robustkit.functional.paired import images_needed, tango
from robustkit.reports import _tables
from robustkit.reports.json_file import load_results

OLD = Path(__file__).parents[1] / "pipeline" / "store_of_0_1_0" / "out"


def one(folder: Path, id: str, clean: list[int], broken: list[int], **changes: Any) -> Path:
    return evaluation(folder, {id: {None: clean, 0.1: broken}}, **changes)


def test_eight_samples_by_hand(tmp_path: Path):
    first = one(tmp_path / "a", "baseline", bits("11111111"), bits("10000010"))
    second = one(tmp_path / "b", "adp", bits("11111110"), bits("11111100"))
    clean, worst, attack = compared([first, second]).comparisons
    assert [row["number"] for row in (clean, worst, attack)] == ["clean", "worst_case", "attack"]
    assert (worst["ensemble"], worst["reference"]) == ("adp", "baseline")
    assert (worst["only_ensemble"], worst["only_reference"], worst["n"]) == (5, 1, 8)
    assert worst["difference"] == 4 / 8
    assert worst["ci95"] == list(tango(5, 1, 8))
    assert worst["p"] == pytest.approx(2 * (1 + 6) / 2**6)
    assert worst["needed"] == images_needed(4 / 8, 7 / 10)
    assert (clean["p"], clean["only_reference"]) == (1.0, 1)
    assert (worst["p_holm"], clean["p_holm"]) == (pytest.approx(2 * worst["p"]), 1.0)
    assert attack["p_holm"] == attack["p"]  # a table of its own
    assert (attack["attack"], attack["eps"]) == ("pgd", 0.1)


def test_an_evaluation_compares_its_own_ensembles(tmp_path: Path):
    generator = np.random.default_rng(0)
    drawn = [generator.integers(0, 2, 60).tolist() for _ in range(6)]
    right = {
        "adp": {None: drawn[0], 0.1: drawn[1]}, "baseline": {None: drawn[2], 0.1: drawn[3]},
        "gncl": {None: drawn[4], 0.1: drawn[5]},
    }  # fmt: skip
    rows = load_results(evaluation(tmp_path, right))["comparisons"]
    table = [row for row in rows if row["number"] != "attack"]
    assert {row["reference"] for row in rows} == {"baseline"}  # though it is not the first
    assert [row["ensemble"] for row in table] == ["adp", "adp", "gncl", "gncl"]
    for row in table:
        own, other = right[row["ensemble"]][row["eps"]], right["baseline"][row["eps"]]
        alone = sum(a > b for a, b in zip(own, other, strict=True)), sum(a < b for a, b in zip(own, other, strict=True))
        assert (row["only_ensemble"], row["only_reference"]) == alone
        assert row["p"] == pytest.approx(scipy_stats.binomtest(alone[0], sum(alone)).pvalue)
    adjusted = multitest.multipletests([row["p"] for row in table], method="holm")[1]
    assert [row["p_holm"] for row in table] == pytest.approx(adjusted.tolist())


def test_the_report_shows_what_each_difference_is_worth(tmp_path: Path):
    right = {
        "baseline": {None: some(50, 49), 0.1: some(50, 20)}, "adp": {None: some(50, 48), 0.1: some(50, 30)}
    }  # fmt: skip
    results = load_results(evaluation(tmp_path, right))
    every = _tables.tables(results)
    table = _tables.find(every, "comparisons")
    assert table.title == "Differences from baseline"
    texts = [[str(cell) for cell in row] for row in table.rows]
    low, high = (f"{100 * end:+.1f}" for end in tango(10, 0, 50))
    assert texts[1] == ["0.1", "worst case", "adp", "60.0", "40.0", f"+20.0 [{low}, {high}]", "10 : 0", ".002", ".004*",
                        "-"]  # fmt: skip
    assert texts[0][-1].endswith(" for 2.0 points")  # how many images would tell 49 from 48 of 50 apart
    assert int(texts[0][-1].split()[0]) == images_needed(0.02, 2 / 52)
    robust = _tables.find(every, "robustness")
    assert robust.rows[0][-1].text == f"+20.0 [{low}, {high}]"
    assert "with paired intervals" in robust.note
    assert len(table.records) == 2
    assert [record["p_holm"] for record in table.records] == [1.0, pytest.approx(2 * 2 / 2**10)]
    api.report(tmp_path, formats=("html", "md", "tex-each", "csv"))
    assert "Differences from baseline" in (tmp_path / "report.html").read_text()
    for kind in ("md", "tex", "csv"):
        assert (tmp_path / "tables" / f"comparisons.{kind}").is_file()


def test_alone_there_is_nothing_to_compare(tmp_path: Path):
    results = load_results(one(tmp_path, "adp", some(10, 9), some(10, 5)))
    assert results["comparisons"] == []
    assert _tables.find(_tables.tables(results), "comparisons") is None


def refusal(*folders: Path) -> str:
    with pytest.raises(UserError) as caught:
        compared(folders)
    return str(caught.value)


def test_what_cannot_be_compared_is_refused_in_a_sentence(tmp_path: Path):
    first = one(tmp_path / "a", "baseline", some(10, 9), some(10, 5))
    assert "'a' holds one model; give the folders of two or more" in refusal(first)
    assert "is given twice" in refusal(first, tmp_path / "a" / "runs")
    other = one(tmp_path / "images", "adp", some(10, 9), some(10, 5), sha="e" * 64)
    assert (
        "'a' (digits, test, n = 10, dddddddddddd) and 'images' (digits, test, n = 10, eeeeeeeeeeee) are of other "
        in (refusal(first, other))
    )
    other = one(tmp_path / "classes", "adp", some(10, 9), some(10, 5), classes=3)
    assert "'a' and 'classes' are of other classes (10 and 3)" in refusal(first, other)
    other = evaluation(tmp_path / "eps", {"adp": {None: some(10, 9), 0.2: some(10, 5), 8 / 255: some(10, 6)}})
    assert "'baseline' (eps 0.1) and 'adp' (eps 8/255, 0.2) have no eps of one norm in common" in refusal(first, other)
    other = evaluation(tmp_path / "clean", {"adp": {None: some(10, 9)}}, suites=())
    assert "'adp' (eps none: nothing was attacked) have no eps" in refusal(first, other)
    assert "holds no runs" in refusal(first, tmp_path)


def test_runs_of_something_else_are_refused(tmp_path: Path):
    first = one(tmp_path / "a", "baseline", some(10, 9), some(10, 5))
    second = one(tmp_path / "b", "adp", some(10, 9), some(10, 4))
    results = json.loads((second / "results.json").read_text())
    results["worst_case"][0]["robust_accuracy"] = 0.5
    write_json(second / "results.json", results)
    assert "do not give the worst case of adp in its results.json; run `robustkit report" in refusal(first, second)
    assert "schema_version 7" in refusal(first, changed(second, schema_version=7))


def test_what_else_differs_is_said(tmp_path: Path):
    machine = {"python": "3.11.7", "torch": "2.6.0"}
    first = one(tmp_path / "a", "baseline", some(10, 9), some(10, 5), environment=machine)
    second = one(
        tmp_path / "b", "adp", some(10, 9), some(10, 5), environment={**machine, "torch": "2.14.0"}, seed=3,
        attacks=("pgd", "mim"), version="0.0.9",
    )  # fmt: skip
    found = compared([first, second])
    (table,) = [table for table in found.tables if table.name == "differences-of-set-up"]
    said = {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}
    assert said["robustkit"] == ["0.1.0", "0.0.9"]
    assert said["seed"] == ["0", "3"]
    assert said["machine: torch"] == ["2.6.0", "2.14.0"]
    assert said["attacks"][0].startswith("pgd (steps=10")
    assert (
        said["attacks"][1].endswith("mim (steps=10, step_size=-, decay=1, loss=ce)") or "; mim (" in said["attacks"][1]
    )
    assert "data" not in said
    assert "data" in table.note.split(": ", 1)[1]


def test_other_attacks_are_compared_on_those_of_both(tmp_path: Path):
    first = one(tmp_path / "a", "baseline", some(10, 9), some(10, 5))
    second = one(tmp_path / "b", "adp", some(10, 9), some(10, 3), attacks=("pgd", "mim"))
    rows = compared([first, second]).comparisons
    assert [row["number"] for row in rows] == ["clean", "worst_case", "attack", "common"]
    assert rows[-1]["difference"] == pytest.approx(-0.2)
    same = one(tmp_path / "c", "adp", some(10, 9), some(10, 3))
    assert "common" not in [row["number"] for row in compared([first, same]).comparisons]


def test_of_several_seeds_the_paired_t_interval(tmp_path: Path):
    broken = [(20, 26), (22, 25), (18, 27), (21, 22)]
    folders = [
        evaluation(
            tmp_path / str(seed),
            {"baseline": {None: some(50, 48), 0.1: some(50, a)}, "adp": {None: some(50, 48), 0.1: some(50, b)}},
            seed=seed,
        )
        for seed, (a, b) in enumerate(broken)
    ]
    found = compared(folders)
    (table,) = [table for table in found.tables if table.name == "comparisons-over-seeds"]
    clean, worst = table.records
    expected = scipy_stats.ttest_rel([b / 50 for _, b in broken], [a / 50 for a, _ in broken])
    interval = expected.confidence_interval(0.95)
    assert (worst["ci_low"], worst["ci_high"]) == pytest.approx((interval.low, interval.high))
    assert worst["p"] == pytest.approx(expected.pvalue)
    assert worst["std"] == pytest.approx(np.std([(b - a) / 50 for a, b in broken], ddof=1))
    assert (clean["difference"], clean["p"], worst["seeds"]) == (0.0, 1.0, "[0, 1, 2, 3]")
    assert worst["p_holm"] == pytest.approx(2 * worst["p"])
    alike = [
        table.name for table in compared([folders[0], one(tmp_path / "x", "gncl", some(50, 9), some(50, 5))]).tables
    ]
    assert "comparisons-over-seeds" not in alike


def test_how_many_points_the_images_tell_apart_is_said(tmp_path: Path):
    """Of equal numbers no images tell the difference: they would tell a point."""
    folders = [one(tmp_path / id, id, some(50, 49), some(50, 10)) for id in ("a", "b")]
    (said,) = compared(folders).takeaway
    assert said.endswith(" images would tell 1.0 points apart.")
    assert ": 0.0 [" in said


def test_the_sentence_is_about_the_budget_that_the_report_quotes(tmp_path: Path):
    """Of several budgets that as many runs used, the one of the transfer matrices: not the largest."""
    right = {None: some(50, 49), 0.1: some(50, 20), 0.2: some(50, 5)}
    folders = [evaluation(tmp_path / id, {id: right}) for id in ("a", "b")]
    matrix = {
        "ensemble": "a", "attack": "pgd", "params": {"eps": 0.1, "norm": "linf"}, "targeted": False,
        "metric": "accuracy", "sources": [], "targets": [], "matrix": [],
    }  # fmt: skip
    changed(folders[0], transfer=[matrix])
    (said,) = compared(folders).takeaway
    assert "at eps 0.1, " in said


def test_a_study_over_seeds_is_compared_seed_by_seed(tmp_path: Path):
    broken = [(20, 26), (22, 25), (18, 27)]
    right, groups = {}, {}
    for seed, (a, b) in enumerate(broken):
        for id, standing in (("adp", b), ("baseline", a)):
            right[f"{id}-seed{seed}"] = {None: some(50, 48), 0.1: some(50, standing)}
            groups[f"{id}-seed{seed}"] = (id, seed)
    results = load_results(evaluation(tmp_path, right, groups=groups))
    pairs = {(row["ensemble"], row["reference"]) for row in results["comparisons"]}
    assert pairs == {(f"adp-seed{seed}", f"baseline-seed{seed}") for seed in range(3)}
    clean, worst, attack = results["comparisons_over_seeds"]
    assert (worst["ensemble"], worst["reference"], worst["seeds"]) == ("adp", "baseline", [0, 1, 2])
    assert worst["values"] == pytest.approx([(b - a) / 50 for a, b in broken])
    expected = scipy_stats.ttest_rel([b / 50 for _, b in broken], [a / 50 for a, _ in broken])
    assert worst["p"] == pytest.approx(expected.pvalue)
    assert (worst["p_holm"], attack["p_holm"]) == (pytest.approx(2 * worst["p"]), worst["p"])
    assert clean["p"] == 1.0
    every = _tables.tables(results)
    table = _tables.find(every, "comparisons-over-seeds")
    assert table.title == "Over seeds, differences from baseline"
    assert table.rows[1][3].text.startswith("+12.0 [")
    single = _tables.find(every, "comparisons")
    assert single.title == "Differences"  # each seed has a reference of its own
    assert "adp-seed2 - baseline-seed2" in [row[2].text for row in single.rows]
    compared_again = {table.name: table for table in compared([tmp_path]).tables}["comparisons-over-seeds"]
    assert compared_again.records[1]["p"] == pytest.approx(worst["p"])
    api.report(tmp_path, formats=("html", "tex"))
    text = (tmp_path / "report.html").read_text()
    assert "Over seeds, differences from baseline" in text
    *kept, difference = re.findall(r'<p class="takeaway">(.*?)</p>', text)
    assert [sentence.partition(" keeps ")[0] for sentence in kept] == [
        f"Against the worst of all attacks, eps 0.1, {group}" for group in ("adp", "baseline")
    ]
    assert difference.startswith("Against the worst of all attacks, eps 0.1, over 3 seeds, adp minus baseline: +12.0 [")


def test_a_store_of_an_older_version_is_compared(tmp_path: Path):
    for name in ("then", "again"):
        shutil.copytree(OLD, tmp_path / name)
    found = compared([tmp_path / "then", tmp_path / "again"])
    worst = {row["eps"]: row for row in found.comparisons if row["number"] == "worst_case"}
    stored = json.loads((OLD / "results.json").read_text())["worst_case"]
    assert {eps: row["accuracy"] for eps, row in worst.items()} == {w["eps"]: w["robust_accuracy"] for w in stored}
    assert all((row["difference"], row["p"]) == (0.0, 1.0) for row in worst.values())


def test_the_command_writes_page_and_tables(tmp_path: Path):
    first = one(tmp_path / "a", "baseline", some(50, 49), some(50, 20))
    second = one(tmp_path / "b", "<b>adp</b>", some(50, 49), some(50, 30))
    code, printed, error = invoke(
        "compare", first, second, "--out", tmp_path / "out", "--format", "html,csv,tex-each,md"
    )
    assert (code, error) == (0, "")
    low, high = (f"{100 * end:+.1f}" for end in tango(10, 0, 50))
    said = (
        f"<b>adp</b>: 60.0 % left by every attack at eps 0.1, baseline 40.0 %: +20.0 [{low}, {high}] points, p = .004"
    )
    assert said in " ".join(printed.split())
    assert printed.splitlines()[-1] == f"report: {tmp_path}/out/compare.html"
    text = (tmp_path / "out" / "compare.html").read_text()
    assert "&lt;b&gt;adp&lt;/b&gt;" in text
    assert "<b>adp</b>" not in text
    assert "http" not in text.replace("http-equiv", "")  # nothing is loaded from elsewhere
    assert {path.name for path in (tmp_path / "out" / "tables").iterdir()} == {
        f"{name}.{kind}"
        for name in ("models", "comparisons", "differences-of-set-up", "comparisons-attacks")
        for kind in ("csv", "tex", "md")
    }
    assert (
        api.compare([first, second], out=tmp_path / "again", formats="csv")
        == page.compared([first, second]).comparisons
    )
    code, _, _ = invoke("compare", first, second, "--out", tmp_path / "paper", "--format", "tex", "--no-marks")
    (whole,) = (tmp_path / "paper" / "tables").iterdir()
    text = whole.read_text()
    assert (code, whole.name) == (0, "tables.tex")
    assert r"\textbf{60.0} [" in text  # the paired test tells 30 of 50 from 20
    assert not re.search(r"\\dagger|\\ddagger", text)
    board = tmp_path / "board.tex"
    code, printed, _ = invoke("leaderboard", tmp_path, "--out", board)
    assert (code, printed.splitlines()[-1]) == (0, f"report: {board}")
    assert r"\label{tab:leaderboard}" in board.read_text()
    code, _, error = invoke("compare", first, second, "--format", "pdf")
    assert (code, error) == (2, "robustkit: unknown format 'pdf': Known: csv, html, md, tex, tex-each.\n")


def several(folder: Path, id: str, linf: str, l2: str, **changes: Any) -> Path:
    """Write an evaluation of one ensemble in two norms, given what is right under attack in each."""
    right = {id: {None: [1] * len(linf), 0.1: bits(linf)}}
    return evaluation(folder, right, norms={"l2": {id: {0.5: bits(l2)}}}, **changes)


def test_who_withstands_all_norms_is_compared(tmp_path: Path):
    first = several(tmp_path / "a", "baseline", "11000000", "10100000")
    second = several(tmp_path / "b", "adp", "11111000", "11110100", verdict="suspect")
    found = compared([first, second])
    (united,) = [row for row in found.comparisons if row["number"] == "union"]
    assert (united["eps"], united["norm"]) == (None, "0.1 linf and 0.5 l2")
    assert (united["accuracy"], united["reference_accuracy"]) == (4 / 8, 1 / 8)
    assert (united["only_ensemble"], united["only_reference"]) == (3, 0)
    assert united["ci95"] == list(tango(3, 0, 8))
    first_table = [row for row in found.comparisons if row["number"] != "attack"]
    adjusted = multitest.multipletests([row["p"] for row in first_table], method="holm")[1]
    assert [row["p_holm"] for row in first_table] == pytest.approx(adjusted.tolist())  # the union is one of them
    assert found.takeaway[-1].startswith("adp: 50.0 % robust to all of 0.1 linf and 0.5 l2, baseline 12.5 %: +37.5 [")
    models, differences = found.tables[:2]
    at = models.columns.index("robust to all % at 0.1 linf and 0.5 l2")
    assert [(row[at].text.split()[0], row[at].verdict) for row in models.rows] == [
        ("12.5", "trusted"), ("50.0", "suspect"),
    ]  # fmt: skip
    assert [cell.text for cell in differences.rows[-1]][:3] == ["0.1 linf and 0.5 l2", "robust to all norms", "adp"]
    assert models.records[-1] == {
        "model": "adp", "evaluation": "b", "clean_accuracy": 1.0, "eps": None, "norm": "0.1 linf and 0.5 l2",
        "worst_case": 0.5, "verdict": "suspect",
    }  # fmt: skip
    page.write(found, tmp_path / "out", ["html", "tex", "csv"])
    assert "robust to all of 0.1 linf and 0.5 l2" in (tmp_path / "out" / "compare.html").read_text()


def test_unions_of_other_budgets_are_shown_and_not_compared(tmp_path: Path):
    first = several(tmp_path / "a", "baseline", "11000000", "10100000")
    right = {"adp": {None: bits("11111111"), 0.1: bits("11111000")}}
    second = evaluation(tmp_path / "b", right, norms={"l2": {"adp": {0.7: bits("11110100")}}})
    found = compared([first, second])
    assert all(row["number"] != "union" for row in found.comparisons)
    assert [[cell.text.split()[0] for cell in row[-2:]] for row in found.tables[0].rows] == [
        ["12.5", "-"],
        ["-", "50.0"],
    ]
    alone = compared([first, one(tmp_path / "c", "gncl", bits("11111111"), bits("11110000"))])
    assert all(row["number"] != "union" for row in alone.comparisons)


def test_unions_over_seeds(tmp_path: Path):
    made = [
        several(tmp_path / f"{seed}{id}", id, linf, l2, groups={id: (id, seed)})
        for seed, id, linf, l2 in (
            (0, "baseline", "11000000", "10100000"), (0, "adp", "11111000", "11110100"),
            (1, "baseline", "11000000", "11000000"), (1, "adp", "11111000", "11100000"),
        )
    ]  # fmt: skip
    (table,) = [table for table in compared(made).tables if table.name == "comparisons-over-seeds"]
    (united,) = [record for record in table.records if record["number"] == "union"]
    assert (united["norm"], united["difference"]) == ("0.1 linf and 0.5 l2", pytest.approx((3 / 8 + 1 / 8) / 2))


def test_a_union_that_the_runs_do_not_give_is_refused(tmp_path: Path):
    first = several(tmp_path / "a", "baseline", "11000000", "10100000")
    second = several(tmp_path / "b", "adp", "11111000", "11110100")
    results = json.loads((second / "results.json").read_text())
    results["union"][0]["robust_accuracy"] = 0.25
    write_json(second / "results.json", results)
    assert "do not give the union of norms of adp in its results.json" in refusal(first, second)


def test_a_report_of_several_norms_compares_its_own_ensembles(tmp_path: Path):
    right = {id: {None: bits("1111"), 0.1: bits(said)} for id, said in (("baseline", "1000"), ("adp", "1110"))}
    l2 = {"baseline": {0.5: bits("1111")}, "adp": {0.5: bits("0111")}}
    results = load_results(evaluation(tmp_path, right, norms={"l2": l2}))
    (united,) = [row for row in results["comparisons"] if row["number"] == "union"]
    assert (united["ensemble"], united["accuracy"], united["reference_accuracy"]) == ("adp", 2 / 4, 1 / 4)

"""The numbers in Markdown, CSV and LaTeX are those of the results, formatted as promised."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from robustkit.base.errors import UserError
from robustkit.base.registry import Entry
from robustkit.records.schema import Results
from robustkit.reports import _format as f
from robustkit.reports import report, write
from robustkit.reports._checks import headline_budget, headlines
from robustkit.reports._labels import labeller
from robustkit.reports._tables import find, tables
from robustkit.reports.md import markdown


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize(
    ("eps", "text"),
    [
        (8 / 255, "8/255"), (0.03137254901960784, "8/255"), (1 / 255, "1/255"), (0.0313, "0.0313"),
        (0.05, "0.05"), (0.2, "0.2"), (0.3, "0.3"), (1.0, "1"), (0.0, "0"), (0.5, "0.5"), (0.125, "0.125"),
    ],
)  # fmt: skip
def test_eps(eps: float, text: str) -> None:
    assert f.eps_text(eps) == text


def test_shares() -> None:
    assert f.percent(0.448) == "44.8"
    assert f.percent(1.0) == "100.0"
    assert f.interval([0.405, 0.4916]) == "[40.5, 49.2]"
    assert f.points(0.123) == "+12.3"
    assert f.points(-0.05) == "-5.0"
    assert f.points(-0.0004) == "0.0"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0"),
        (1e-4, "0.0001"),
        (3.25, "3.25"),
        (1234.5, "1234"),
        (2.5e9, "2500000000"),
        (1e-9, "1e-09"),
    ],
)
def test_numbers(value: float | None, text: str) -> None:
    assert f.number(value) == text


def test_slugs_are_safe_and_never_empty() -> None:
    assert f.slug("transfer", "../../etc <script>", "8/255") == "transfer-etc-script-8-255"
    assert f.slug("///") == "unnamed"
    taken: set[str] = set()
    assert [f.unique("a", taken) for _ in range(3)] == ["a", "a-2", "a-3"]


def test_robustness_rows(results: Results) -> None:
    table = find(tables(results), "robustness")
    assert table is not None
    assert table.columns == ["eps", "attack", "baseline", "adp", "adp - baseline"]
    lines = {(str(row[0]), str(row[1])): [str(cell) for cell in row[2:]] for row in table.rows}
    assert len(lines) == 12
    assert lines["8/255", "pgd-10"] == ["32.6 [28.6, 36.6] ?", "44.8 [40.8, 48.8] ?", "+12.2 ?"]
    assert lines["8/255", "pgd-100"] == ["5.2 [1.2, 9.2] +", "11.6 [7.6, 15.6] +", "+6.4"]
    assert lines["0.05", "fgsm, targeted"] == ["71.4 [67.4, 75.4] !", "79.0 [75.0, 83.0] +", "+7.6 !"]
    attacks = [str(row[1]) for row in table.rows[:4]]
    assert attacks == ["pgd-10", "pgd-100", "mim-10", "fgsm, targeted"]  # short and long beside each other
    assert [table.starts(at) for at in range(5)] == [False, False, False, False, True]
    assert "Run again with --set pgd.steps=100" in table.rows[4][2].hint


def test_no_baseline_no_differences(results: Results) -> None:
    results["ensembles"] = [e for e in results["ensembles"] if e["id"] == "adp"]
    table = find(tables(results), "robustness")
    assert table is not None
    assert table.columns == ["eps", "attack", "adp"]


def test_a_missing_run_is_a_dash(results: Results) -> None:
    del results["evaluations"][1]  # baseline, pgd, 8/255
    table = find(tables(results), "robustness")
    assert table is not None
    row = next(r for r in table.rows if (r[0].text, r[1].text) == ("8/255", "pgd-10"))
    assert [str(cell) for cell in row[2:]] == ["-", "44.8 [40.8, 48.8] ?", "-"]


def test_runs_that_differ_in_another_setting_stay_apart(results: Results) -> None:
    first = results["evaluations"][0]
    results["evaluations"] += [
        {**first, "params": {**first["params"], "restarts": 5}, "robust_accuracy": 0.611},
        {**first, "backend": "torchattacks", "robust_accuracy": 0.699},
    ]
    label = labeller(results)
    names = [label(e) for e in (first, *results["evaluations"][-2:])]
    assert names == ["pgd-10", "pgd-10 [restarts=5]", "pgd-10 [backend=torchattacks]"]
    text = markdown(find(tables(results), "robustness"))  # type: ignore[arg-type]
    assert all(number in text for number in ("70.2", "61.1", "69.9"))


def test_another_norm_is_named(results: Results) -> None:
    results["evaluations"].append({**results["evaluations"][0], "norm": "l2", "eps": 0.5})
    table = find(tables(results), "robustness")
    assert table is not None
    assert [str(cell) for cell in table.rows[0][:2]] == ["0.5 l2", "pgd-10"]


def test_checks_table_lists_only_what_is_not_trusted(results: Results) -> None:
    table = find(tables(results), "checks")
    assert table is not None
    assert len(table.rows) == 10  # pgd and mim at the two larger eps, twice, the invalid one, and a worst case
    worst, first = ([str(cell) for cell in row] for row in table.rows[:2])  # the worst cases go before the runs
    assert worst[:6] == ["adp", "8/255", "worst case", "suspect ?", "fusion-swap", "0.0625"]
    assert first[:4] == ["baseline", "8/255", "pgd-10", "suspect ?"]
    assert first[4:7] == ["iterations-suffice", "3.25", "1"]
    assert first[7].startswith("Run again")
    results["evaluations"][0] |= {"verdict": "invalid", "checks": []}
    table = find(tables(results), "checks")
    assert table is not None
    assert str(table.rows[1][4]) == "(none recorded)"


def test_headline(results: Results) -> None:
    assert headline_budget(results) == (8 / 255, "linf")  # where the transfer matrices were made
    base, adp = headlines(results)
    assert (base.ensemble["id"], base.budget, base.verdict) == ("baseline", "8/255", "trusted")
    assert base.worst is not None
    assert base.worst["robust_accuracy"] == 0.039
    assert adp.strongest == "pgd-100"  # suspect weaker runs do not spoil the strongest
    assert [w["eps"] for w in adp.others] == [4 / 255, 0.05]
    assert adp.verdict == "suspect"  # the worst case's own, whatever is said of the runs it is made of
    for e in results["evaluations"]:
        e["verdict"] = "invalid"
    assert [h.verdict for h in headlines(results)] == ["trusted", "suspect"]
    results["worst_case"] = []
    assert [h.verdict for h in headlines(results)] == [None, None]


def test_escalation_table_shows_the_path(results: Results, tmp_path: Path) -> None:
    table = find(tables(results), "escalation")
    assert table is not None
    assert [[str(cell) for cell in row] for row in table.rows] == [
        ["adp", "8/255", "what was asked for", "", "11.6 ?"],
        ["adp", "8/255", "pgd (200 steps, 5 restarts)", "iterations-suffice, fusion-swap", "9.4 ?"],
        ["adp", "8/255", "fusion-swap (100 steps)", "fusion-swap", "8.7 ?"],
    ]
    write(results, tmp_path, ["md", "csv", "tex-each"])
    assert (
        "| adp | 8/255 | fusion-swap (100 steps) | fusion-swap | 8.7 ? |"
        in (tmp_path / "tables" / "escalation.md").read_text()
    )
    assert "fusion-swap (100 steps) & fusion-swap & 8.7" in (tmp_path / "tables" / "escalation.tex").read_text()
    rows = read_csv(tmp_path / "tables" / "escalation.csv")
    assert [(r["step"], r["attack"], r["because"], float(r["robust_accuracy"]), float(r["before"])) for r in rows] == [
        ("1", "pgd", "iterations-suffice fusion-swap", 0.094, 0.116), ("2", "fusion-swap", "fusion-swap", 0.087, 0.116),
    ]  # fmt: skip
    assert json.loads(rows[0]["params"]) == {"steps": 200, "restarts": 5}
    step = results["escalation"][0]["path"][1]
    for count in (60, 80):  # two that differ in nothing else
        params = {"steps": 6, "population": 32, "generations": count}
        results["escalation"][0]["path"].append({**step, "attack": "recombine", "params": params})
    table = find(tables(results), "escalation")
    assert [str(row[2]) for row in table.rows][3:] == [
        "recombine (6 steps, 60 generations)", "recombine (6 steps, 80 generations)",
    ]  # fmt: skip
    results["escalation"] = []
    assert find(tables(results), "escalation") is None


def test_markdown_files(results: Results, tmp_path: Path) -> None:
    paths = write(results, tmp_path, ["md"])
    assert {p.name for p in paths} >= {
        "ensembles.md",
        "robustness.md",
        "worst-case.md",
        "checks.md",
        "perturbations.md",
    }
    assert sum(p.name.startswith("transfer-") for p in paths) == 6
    assert all(p.parent == tmp_path / "tables" and p.is_file() for p in paths)
    text = (tmp_path / "tables" / "robustness.md").read_text()
    assert "| 8/255 | pgd-10 | 32.6 [28.6, 36.6] ? | 44.8 [40.8, 48.8] ? | +12.2 ? |" in text
    assert "+ trusted, ~ unchecked, ? suspect, ! invalid" in text
    worst = (tmp_path / "tables" / "worst-case.md").read_text()
    assert "| 8/255 | 3.9 [3.6, 4.2] + | 8.7 [8.1, 9.3] ? |" in worst
    sizes = (tmp_path / "tables" / "perturbations.md").read_text()
    assert "| adp | 8/255 | fgsm, targeted | - | 12.5 | 0.625 | 0.0314 | 11 | 10.5 | 1.25 |" in sizes
    matrix = (tmp_path / "tables" / "transfer-adp-pgd-10-8-255-accuracy.md").read_text()
    assert "| member 0 | 31.0 | 48.3 | 48.3 | 48.3 |" in matrix
    assert "accuracy (low = transfers)" in matrix


def test_markdown_escapes(results: Results) -> None:
    results["ensembles"][0]["arch"] = "a|b <i>*x*"
    text = markdown(find(tables(results), "ensembles"))  # type: ignore[arg-type]
    assert r"a\|b \<i\>\*x\*" in text
    assert "small_resnet" in text


def test_csv_parses_back_to_the_same_numbers(results: Results, tmp_path: Path) -> None:
    write(results, tmp_path, ["csv"])
    rows = read_csv(tmp_path / "tables" / "robustness.csv")
    assert len(rows) == len(results["evaluations"]) == 24
    for row, e in zip(rows, results["evaluations"], strict=True):
        assert (row["ensemble"], row["attack"], row["verdict"]) == (e["ensemble"], e["attack"], e["verdict"])
        assert [float(row["ci_low"]), float(row["ci_high"])] == e["ci95"]
        assert json.loads(row["params"]) == e["params"]
        assert row["targeted"] == str(e["targeted"])
        for key in ("eps", "clean_accuracy", "robust_accuracy", "mean_l2", "mean_linf", "forwards", "seconds"):
            assert float(row[key]) == e[key]  # type: ignore[literal-required]
        assert row["mean_l0"] == ("" if e["mean_l0"] is None else str(e["mean_l0"]))
    assert rows[1]["failed_checks"] == "iterations-suffice"
    cells = read_csv(tmp_path / "tables" / "transfer-baseline-pgd-10-8-255-accuracy.csv")
    flat = [value for row in results["transfer"][3]["matrix"] for value in row]
    assert [float(row["value"]) for row in cells] == flat
    assert (cells[1]["source"], cells[1]["target"]) == ("member 0", "member 1")
    judged = read_csv(tmp_path / "tables" / "checks.csv")
    numbers = [*results["evaluations"], *results["worst_case"]]
    assert len(judged) == sum(len(e["checks"]) for e in numbers)  # the passed ones too


def test_empty_results_have_no_tables(empty: Results, tmp_path: Path) -> None:
    assert write(empty, tmp_path, ["md", "csv", "tex", "figures"]) == []


def test_unknown_format_writes_nothing(results: Results, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'html'"):
        write(results, tmp_path / "new", ["md", "htlm"])
    assert not (tmp_path / "new").exists()


def test_registered_reports() -> None:
    assert report.names() == ["card", "csv", "figures", "html", "json", "md", "robustbench", "tex", "tex-each"]
    assert all(isinstance(entry, Entry) and entry.facts["title"] and entry.summary for entry in report)

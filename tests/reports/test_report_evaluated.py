"""What Python is given: a mapping as before, the worst case by its budget, the numbers as a table."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas
import pytest

import robustkit
from robustkit.base.errors import UserError
from robustkit.records.schema import Results
from robustkit.reports._evaluated import EvaluationResults
from robustkit.reports._frame import COLUMNS


@pytest.fixture
def evaluated(results: Results) -> EvaluationResults:
    return EvaluationResults(results)


def test_it_is_still_the_mapping(evaluated: EvaluationResults, results: Results) -> None:
    assert isinstance(evaluated, dict)
    assert evaluated == results
    assert json.loads(json.dumps(evaluated)) == json.loads(json.dumps(results))


@pytest.mark.parametrize("eps", ["8/255", 8 / 255, 0.03137255])
def test_worst_case_at_an_eps_however_it_is_written(evaluated: EvaluationResults, eps: str | float) -> None:
    found = evaluated.worst_case(eps)
    assert {name: w["robust_accuracy"] for name, w in found.items()} == {"adp": 0.087, "baseline": 0.039}
    assert found["adp"]["verdict"] == "suspect"
    assert evaluated.worst_case() == found  # what the report quotes
    assert evaluated.worst_case(eps, "linf") == found


def test_worst_case_of_several_norms(evaluated: EvaluationResults) -> None:
    evaluated["worst_case"] += [{**w, "norm": "l2", "robust_accuracy": 0.5} for w in evaluated["worst_case"]]
    assert evaluated.worst_case("8/255")["adp"]["norm"] == "linf"
    assert evaluated.worst_case("8/255", "l2")["adp"]["robust_accuracy"] == 0.5


def test_an_eps_that_was_not_run_names_those_there_are(evaluated: EvaluationResults) -> None:
    with pytest.raises(UserError, match=r"no worst case at eps 0\.3; there is: 4/255, 8/255, 0\.05\."):
        evaluated.worst_case(0.3)
    with pytest.raises(UserError, match=r"no worst case at eps 8/255 l2; there is"):
        evaluated.worst_case("8/255", "l2")
    with pytest.raises(UserError, match="eps 'large' is not a number"):
        evaluated.worst_case("large")
    with pytest.raises(UserError, match="none, for nothing was attacked"):
        EvaluationResults({**evaluated, "worst_case": [], "evaluations": [], "transfer": []}).worst_case()


def test_one_row_a_number(evaluated: EvaluationResults) -> None:
    frame = evaluated.to_frame()
    assert list(frame.columns) == list(COLUMNS)
    attacks = frame[frame.suite == "attacks"]
    assert len(attacks) == len(evaluated["evaluations"])
    one = attacks[(attacks.ensemble == "adp") & (attacks["of"] == "pgd-10") & (attacks.eps == 8 / 255)].iloc[0]
    assert (one.value, one.verdict) == (0.448, "suspect")
    assert (one.ci_low, one.ci_high) == pytest.approx((0.408, 0.488))
    worst = frame[frame.suite == "worst_case"].pivot(index="eps", columns="ensemble", values="value")
    assert worst.loc[8 / 255].to_dict() == {"adp": 0.087, "baseline": 0.039}
    assert len(frame[frame.suite == "transfer"]) == sum(len(t["matrix"]) ** 2 for t in evaluated["transfer"])
    assert set(frame[frame.suite == "minimum_norm"].metric) == {"found", "median"}
    assert frame[(frame.suite == "clean") & frame.target.isna()].value.tolist() == [0.992, 0.992]


def test_without_pandas_a_sentence_says_what_to_do(
    evaluated: EvaluationResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match=r"to_frame needs pandas, which is not installed; run `pip install pandas`"):
        evaluated.to_frame()


def test_a_file_is_loaded_without_torch_and_without_pandas(results: Results, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(results))
    for place in (tmp_path, tmp_path / "results.json"):
        assert robustkit.load_results(place) == results
    code = (
        "import sys, robustkit\n"
        f"found = robustkit.load_results({str(tmp_path)!r}).worst_case('8/255')\n"
        "assert found['adp']['robust_accuracy'] == 0.087\n"
        "assert not {'torch', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(UserError, match="cannot read"):
        robustkit.load_results(tmp_path / "nothing")


def test_an_empty_table_has_its_columns(empty: Results) -> None:
    frame = EvaluationResults(empty).to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert (list(frame.columns), len(frame)) == (list(COLUMNS), 0)

"""Requirements at the end of an evaluation: refused before any work, missed after the report is written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from in_process import invoke

from robustkit import api
from robustkit.base.errors import GateError, RunError, UserError

STORE = Path(__file__).parents[1] / "pipeline" / "store_of_0_1_0"
ASKED: dict[str, Any] = {
    "checkpoint": "ensemble", "arch": "net.py:net", "attacks": "mim", "settings": ["mim.steps=2"], "eps": "0.05",
    "n": 8, "suites": "attacks", "trust": "off", "reference": False, "speed": "off", "formats": "csv",
    "keep_examples": False, "out": "out",
}  # fmt: skip
COMMAND = [
    "evaluate", "--checkpoint", "ensemble", "--arch", "net.py:net", "--attacks", "mim", "--set", "mim.steps=2", "--eps",
    "0.05", "--n", "8", "--suites", "attacks", "--trust", "off", "--no-reference", "--speed", "off", "--format", "csv",
    "--no-keep-examples", "--out", "out",
]  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small trained ensemble, which is the current one."""
    shutil.copytree(STORE / "ensemble", tmp_path / "ensemble")
    shutil.copy(STORE / "net.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_shows_its_answer_then_fails(here: Path):
    code, printed, error = invoke(*COMMAND, "--min", "worst_case@0.05>=0.1")
    assert code == 0, error
    assert "holds  worst_case@0.05>=0.1: ensemble: worst case at 0.05 is 62.5 %" in printed
    assert printed.splitlines()[-1] == "report: out/tables"

    code, printed, error = invoke(*COMMAND, "--min", "worst_case@0.05>=0.9", "--require", "trusted")
    assert code == 1
    assert "ensemble keeps 62.5 %" in printed
    assert printed.splitlines()[-1] == "report: out/tables"
    assert error.startswith("robustkit: 2 of 2 requirements missed: ensemble: worst case at 0.05 is 62.5 %")
    assert (here / "out" / "results.json").is_file()
    # What is advised is the same command, without what was required of it.
    assert "--min" not in (here / "out" / "results.json").read_text()
    assert "--require" not in (here / "out" / "results.json").read_text()


def test_nothing_is_run_for_what_cannot_be_held(here: Path):
    for given, said in (
        (["--min", "worst_case@0.1>=0.1"], "is at an eps that was not run; there are 0.05."),
        (["--min", "pgd>=0.1"], "unknown number in --min 'pgd'"),
        (["--min", "ensembel:worst_case>=0.1"], "unknown ensemble in --min 'ensembel': did you mean 'ensemble'"),
        (["--against-baseline", "net.py"], "'net.py' is not a baseline"),
    ):
        code, printed, error = invoke(*COMMAND, *given)
        assert (code, printed) == (2, "")
        assert said in error
    with pytest.raises(UserError, match="cannot read baseline"):
        api.evaluate(**ASKED, against_baseline="none.json")
    assert not (here / "out").exists()


def test_in_python_a_missed_gate_is_an_error_after_the_report(here: Path):
    with pytest.raises(GateError, match="1 of 2 requirements missed: ensemble: clean accuracy is 62.5 %") as caught:
        api.evaluate(**ASKED, minimum=["clean>=0.9", "worst_case>=0.1"])
    assert isinstance(caught.value, RunError)  # exit code 1, as of what failed while running
    assert (here / "out" / "results.json").is_file()
    results = api.evaluate(**ASKED, minimum="worst_case>=0.1")
    assert results["worst_case"]
    # What is asked of the numbers is no part of the evaluation, typed or called.
    assert results["run"]["configuration"]["minimum"] is None
    assert "minimum" not in (here / "out" / "study.resolved.toml").read_text()

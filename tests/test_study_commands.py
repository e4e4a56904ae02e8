"""``robustkit run`` and ``validate``, and what is typed wrong about seeds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from in_process import invoke
from stored import evaluation, some

from robustkit.base.errors import GateError
from robustkit.commands import studies
from robustkit.study.config import EvaluateCommand


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["evaluate", "--seed", "0,1,2"], "--seed '0,1,2' is several; give them to --seeds."),
        (["train", "--seed", "0,1"], "give them to --seeds"),
        (["evaluate", "--seeds", "0-2,1"], "seeds '0-2,1' name 1 twice; name each once."),
        (["train", "--seeds", "1,1"], "name 1 twice"),
        (["evaluate", "--seeds", "0-2", "--seed", "4"], "no effect beside --seed"),
        (["evaluate", "--seeds", "0-2", "--checkpoint", "x"], "no effect beside --checkpoint"),
        (["run"], "run needs a study"),
        (["run", "--n", "20"], "run needs a study"),
        (["run", "nowhere.toml"], "cannot read the study 'nowhere.toml'"),
        (["audit"], "requires an argument"),  # what no file gives has to be typed
    ],
)
def test_bad_usage_is_one_sentence(words: list[str], said: str):
    code, out, err = invoke(*words)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_validate_prints_every_problem_and_run_refuses_with_the_first(tmp_path: Path):
    path = tmp_path / "study.toml"
    path.write_text('attacks = ["pgd", "mimm"]\nn = "5"\nsede = 1\n', "utf-8")
    code, out, _ = invoke("validate", path)
    assert code == 2
    assert [line.partition(": ")[0] for line in out.splitlines()] == [f"{path}:{line}" for line in (1, 2, 3)]
    code, out, err = invoke("run", path, "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert "unknown attack 'mimm'" in err
    assert f"(2 more: robustkit validate {path})" in err
    assert not (tmp_path / "out").exists()


def test_validate_of_a_sound_study_says_what_it_is(tmp_path: Path):
    path = tmp_path / "study.toml"
    path.write_text('arch = ["lenet", "resnet20"]\nseeds = [0, 1]\n', "utf-8")
    assert invoke("validate", path) == (0, f"{path}: robustkit evaluate, a grid of 2.\n", "")
    path.write_text('command = "train"\n', "utf-8")
    assert invoke("validate", path) == (0, f"{path}: robustkit train.\n", "")


def test_a_grid_ends_with_a_page_that_leads_to_all_its_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path, out = tmp_path / "study.toml", tmp_path / "grid"
    path.write_text("epochs = [1, 2]\n", "utf-8")

    def ran(config: EvaluateCommand) -> None:
        right = {None: some(20, 19), 0.1: some(20, 5 * config.epochs)}
        evaluation(Path(config.out), {f"adp of {config.epochs}": right})
        (Path(config.out) / "report.html").write_text("the report")

    studies.run("evaluate", EvaluateCommand, ran, {"out": out}, studies.Asked(config=path))
    assert capsys.readouterr().out.splitlines()[-1] == f"all of them: {out}/leaderboard.html"
    text = (out / "leaderboard.html").read_text()
    links = re.findall(r'<a href="([^"#]+)">adp of \d</a>', text)
    assert links == ["digits-2/report.html", "digits-1/report.html"]  # the better one first
    for more in ({"quiet": True}, {"formats": "csv"}):
        (out / "leaderboard.html").unlink(missing_ok=True)
        studies.run("evaluate", EvaluateCommand, ran, {"out": out, **more}, studies.Asked(config=path))
        assert "all of them" not in capsys.readouterr().out
    assert not (out / "leaderboard.html").exists()  # no page was asked for


def test_a_missed_requirement_does_not_end_a_grid(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "study.toml"
    path.write_text('epochs = [1, 2]\nminimum = "worst_case@0.1>=0.9"\nquiet = true\n', "utf-8")
    ran: list[int | None] = []

    def missed(config: EvaluateCommand) -> None:
        ran.append(config.epochs)
        raise GateError("1 of 1 requirements missed: the worst case is 50 %.")

    with pytest.raises(GateError) as caught:
        studies.run("evaluate", EvaluateCommand, missed, {}, studies.Asked(config=path))
    assert ran == [1, 2]
    assert str(caught.value).startswith("requirements missed in 2 of 2 runs: robustkit-out/digits-1: 1 of 1 ")
    assert capsys.readouterr().out == ""  # with -q the commands print a path each, and nothing else does

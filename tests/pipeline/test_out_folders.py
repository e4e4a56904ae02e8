"""An --out of something else is refused before any work; runs are those of the study as it is now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from in_process import invoke

import robustkit
from robustkit.base.errors import UserError
from robustkit.base.files import own_folder
from robustkit.records.store import Store

NET = f"{Path(__file__).parents[1] / 'networks.py'}:perceptron"
ASKED: dict[str, Any] = {
    "defense": "baseline", "arch": NET, "members": 2, "epochs": 1, "n": 16, "attacks": "pgd", "eps": [0.1, 0.2],
    "settings": {"pgd.steps": 2}, "suites": "attacks,corruptions", "corruptions": "design-diversity", "speed": "off",
    "formats": (),
}  # fmt: skip


@pytest.fixture
def thesis(tmp_path: Path) -> Path:
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter.tex").write_text("x")
    return folder


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folders") / "out"
    robustkit.evaluate(**ASKED, out=folder)
    return folder


def test_every_command_refuses_a_folder_of_something_else(thesis: Path, out: Path):
    said = "holds something else (chapter.tex); name a folder that is new or empty, or add --force."
    for words in (
        ["evaluate", "--arch", NET, "--epochs", "1"],
        ["train", "--defense", "baseline", "--arch", NET, "--epochs", "1"],
        ["report", out],
    ):
        code, _, error = invoke(*words, "--out", thesis)
        assert (code, said in error) == (2, True), error
        assert [path.name for path in thesis.iterdir()] == ["chapter.tex"]
    with pytest.raises(UserError, match="holds something else"):
        robustkit.audit(torch.nn.Flatten(), (torch.zeros(40, 1, 8, 10), torch.arange(40) % 10), out=thesis)


def test_forced_it_writes_there_and_later_it_is_its_own(thesis: Path, out: Path):
    assert invoke("report", out, "--out", thesis, "--format", "md", "--force")[0] == 0
    assert {"chapter.tex", "results.json", "tables"} <= {path.name for path in thesis.iterdir()}
    assert invoke("report", out, "--out", thesis, "--format", "md")[0] == 0


def test_new_empty_hidden_and_own_folders_are_fine(tmp_path: Path):
    assert own_folder(tmp_path / "new", "--out", ("runs",)).is_dir()
    (tmp_path / "new" / ".DS_Store").write_text("x")
    own_folder(tmp_path / "new", "--out", ("runs",))
    (tmp_path / "new" / "runs").mkdir()
    (tmp_path / "new" / "notes.txt").write_text("x")
    own_folder(tmp_path / "new", "--out", ("runs",))
    with pytest.raises(
        UserError, match=r"'.*' holds something else \(\.\.\.|holds something else \(notes\.txt, runs\)"
    ):
        own_folder(tmp_path / "new", "--out", ("ensemble.json",))
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write to --out"):
        own_folder(tmp_path / "file", "--out", ())


def test_an_interrupted_training_goes_on_in_its_folder(tmp_path: Path):
    (tmp_path / "training.progress").write_text("damaged: begun anew")
    robustkit.train(defense="baseline", arch=NET, members=2, epochs=1, speed="off", out=tmp_path)
    robustkit.train(defense="baseline", arch=NET, members=2, epochs=1, speed="off", out=tmp_path)


def test_cells_are_those_of_the_study_as_it_is_now(tmp_path: Path):
    robustkit.evaluate(**ASKED, out=tmp_path)
    before = {cell.key for cell in robustkit.load_runs(tmp_path).cells()}
    assert before == {cell.key for cell in Store(tmp_path / "runs").cells()}  # nothing else was asked for yet
    kinds = {cell.kind for cell in robustkit.load_runs(tmp_path).cells()}
    assert kinds == {"clean", "attack", "corruption", "probe"}
    robustkit.evaluate(**{**ASKED, "eps": [0.1], "attacks": "fgsm", "settings": None}, out=tmp_path)
    store = robustkit.load_runs(tmp_path)
    now = list(store.cells())
    assert {cell.eps for cell in now if cell.kind == "attack"} == {0.1}
    assert {cell.name for cell in now if cell.kind == "attack"} == {"fgsm", "quorum"}
    assert len(list(Store(tmp_path / "runs").cells())) > len(now)
    assert {run.cell.kind for run in store} == {"clean", "attack", "corruption"}
    robustkit.evaluate(**ASKED, out=tmp_path)
    assert {cell.key for cell in robustkit.load_runs(tmp_path).cells()} == before


def test_of_an_unfinished_study_what_is_there(tmp_path: Path):
    robustkit.evaluate(**ASKED, out=tmp_path)
    store = robustkit.load_runs(tmp_path)
    lost = next(cell for cell in store.cells() if cell.kind == "attack" and cell.eps == 0.2)
    (tmp_path / "runs" / f"{lost.key}.json").unlink()
    left = {cell.key for cell in robustkit.load_runs(tmp_path).cells()}
    assert lost.key not in left
    assert any(cell.kind == "attack" for cell in robustkit.load_runs(tmp_path).cells())

"""The same command again loads nothing; whatever its answer depends on has it asked in the long way."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process import invoke

from robustkit.commands import _recall
from robustkit.study.config import AuditConfig, EvaluateConfig

SAID = "All cells were in the store already, and so was their report."
WORDS = ["evaluate", "--attacks", "fgsm", "--n", "20", "--trust", "off", "--no-reference"]
WORDS += ["--suites", "attacks", "--epochs", "1", "--members", "2"]


def _ask(folder: Path, *more: str) -> str:
    rest = [] if "--eps" in more else ["--eps", "0.1"]
    rest += [] if "--format" in more else ["--format", "json,csv"]
    code, out, err = invoke(*WORDS, "--out", folder, *rest, *more)
    assert code == 0, err
    return out


def _answer(out: str) -> list[str]:
    lines = out.splitlines()
    return lines[next(i for i, line in enumerate(lines) if "worst case" in line or "keeps" in line) :]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("recall") / "out"
    return folder, _ask(folder)


def test_the_second_run_says_the_same_and_writes_nothing(first: tuple[Path, str]):
    folder, said = first
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    again = _ask(folder)
    assert SAID in again
    assert _answer(again) == _answer(said)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert _ask(folder, "-q").splitlines() == [str(folder / "results.json")]


def test_the_second_run_loads_neither_torch_nor_what_draws(first: tuple[Path, str]):
    folder, _ = first
    words = [*WORDS, "--eps", "0.1", "--format", "json,csv", "--out", str(folder)]
    code = f"import sys; sys.argv = ['robustkit', *{words!r}]\nfrom robustkit.__main__ import main\n"
    code += "try:\n    main()\nexcept SystemExit:\n    pass\n"
    code += "print([name for name in ('torch', 'matplotlib', 'sklearn') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert SAID in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("more", [["--seed", "1", "--no-baseline"], ["--format", "json,md"], ["--eps", "0.2"]])
def test_another_question_is_no_old_answer(first: tuple[Path, str], more: list[str]):
    folder, _ = first
    assert SAID not in _ask(folder, *more)
    assert SAID in _ask(folder, *more)
    assert SAID not in _ask(folder)  # the files are those of the other question


@pytest.mark.parametrize("change", ["edited", "gone", "cell gone"])
def test_files_that_changed_are_written_again(first: tuple[Path, str], change: str):
    folder, _ = first
    _ask(folder)
    path = folder / "results.json" if change != "cell gone" else sorted((folder / "runs").glob("*.npz"))[0]
    text = path.read_bytes()
    if change == "edited":
        path.write_bytes(text.replace(b"robust_accuracy", b"robust_Accuracy"))
    else:
        path.unlink()
    assert SAID not in _ask(folder)
    if change != "cell gone":  # which holds seconds
        assert b"robust_accuracy" in path.read_bytes()


def test_data_that_changed_are_attacked_again(tmp_path: Path):
    images = np.random.default_rng(0).integers(0, 255, (60, 8, 8, 1), dtype=np.uint8)
    labels = np.arange(60) % 3

    def put(images: np.ndarray) -> None:
        split = {f"{kind}_{name}": x for name in ("train", "test") for kind, x in (("x", images), ("y", labels))}
        np.savez(tmp_path / "own.npz", **split)

    put(images)
    words = ["--dataset", f"npz:{tmp_path / 'own.npz'}", "--arch", "lenet"]
    _ask(tmp_path / "out", *words)
    assert SAID in _ask(tmp_path / "out", *words)
    put(255 - images)
    assert SAID not in _ask(tmp_path / "out", *words)


def test_a_requirement_is_held_against_an_old_answer(first: tuple[Path, str]):
    folder, _ = first
    _ask(folder)
    words = [*WORDS, "--eps", "0.1", "--format", "json,csv", "--out", folder, "--min"]
    code, out, err = invoke(*words, "worst_case@0.1>=0")
    assert (code, SAID in out) == (0, True), err
    code, out, _ = invoke(*words, "worst_case@0.1>=0.999")
    assert (code, SAID in out) == (1, True)


def test_another_cache_is_another_question(first: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder, _ = first
    _ask(folder)
    monkeypatch.setenv("ROBUSTKIT_CACHE", str(tmp_path / "cache"))
    assert SAID not in _ask(folder)


def test_code_named_in_an_option_is_never_recalled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert _recall.question("evaluate", EvaluateConfig(arch="somewhere.models:Net")) is None
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text("x = 1\n", "utf-8")
    asked = EvaluateConfig(arch="net.py:Net")
    assert _recall.question("evaluate", asked) is None  # what it imports may have changed
    Path("net").mkdir()
    assert _recall.question("evaluate", EvaluateConfig(arch="net:Net")) is None  # a package in this folder
    assert _recall.question("audit", AuditConfig(("m.pt",), dataset="digits", trust_pickle=True)) is None


def _question(**more: Any) -> str | None:
    return _recall.question("evaluate", EvaluateConfig(**more))


@pytest.mark.parametrize("folder", ["a,b", "a=b", "a+b", "a:b"])
def test_data_below_a_folder_with_a_sign_in_its_name_are_looked_at(tmp_path: Path, folder: str):
    path = tmp_path / folder / "own.npz"
    path.parent.mkdir()
    path.write_bytes(b"1")
    before = _question(dataset=f"npz:{path}")
    assert before == _question(dataset=f"npz:{path}") is not None
    path.write_bytes(b"12")
    assert _question(dataset=f"npz:{path}") not in (None, before)


def test_a_file_put_in_place_of_another_with_its_size_and_time_is_noticed(tmp_path: Path):
    path, other = tmp_path / "own.npz", tmp_path / "other.npz"
    path.write_bytes(b"1")
    before = _question(dataset=f"npz:{path}")
    other.write_bytes(b"2")
    shutil.copystat(path, other)
    other.replace(path)
    assert _question(dataset=f"npz:{path}") not in (None, before)


def test_folders_behind_links_are_looked_at(tmp_path: Path):
    (tmp_path / "far").mkdir()
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "cats").symlink_to(tmp_path / "far")
    before = _question(dataset=f"imagefolder:{tmp_path / 'images'}")
    (tmp_path / "far" / "1.png").write_bytes(b"1")
    assert _question(dataset=f"imagefolder:{tmp_path / 'images'}") not in (None, before)
    (tmp_path / "images" / "dogs").symlink_to(tmp_path / "images")
    assert _question(dataset=f"imagefolder:{tmp_path / 'images'}") is None


def test_what_describes_named_weights_is_looked_at(tmp_path: Path):
    for name in ("weights.safetensors", "ensemble.json"):
        (tmp_path / name).write_text("{}", "utf-8")
    before = _question(checkpoint=str(tmp_path / "weights.safetensors"))
    (tmp_path / "ensemble.json").write_text("{1}", "utf-8")
    assert _question(checkpoint=str(tmp_path / "weights.safetensors")) not in (None, before)


def test_an_answer_with_an_attack_that_no_worker_could_finish_is_not_noted(tmp_path: Path):
    (tmp_path / "runs").mkdir()
    cell = tmp_path / "runs" / "a.json"
    cell.write_text('{"environment": {"host": "failed"}}', "utf-8")
    _recall.remember("asked", tmp_path)
    assert (tmp_path / _recall.NOTE).exists()
    cell.write_text('{"environment": {"failed": "its worker died"}}', "utf-8")
    _recall.remember("asked", tmp_path)
    assert not (tmp_path / _recall.NOTE).exists()

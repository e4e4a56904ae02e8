"""The same command again loads nothing; whatever its answer depends on has it asked in the long way."""

from __future__ import annotations

import ast
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process import invoke

from robustkit.base import files
from robustkit.cli import app
from robustkit.commands import _question as ingredients
from robustkit.commands import _recall
from robustkit.study.config import AuditConfig, EvaluateConfig

SAID = "All cells were in the store already, and so was their report."
HEAVY = (
    "cyclopts", "rich", "numpy", "torch", "importlib.metadata", "robustkit.base.configuration", "robustkit.reports",
    "inspect", "tempfile", "threading", "difflib",
)  # fmt: skip
WORDS = ["evaluate", "--attacks", "fgsm", "--n", "20", "--trust", "off", "--no-reference"]
WORDS += ["--suites", "attacks", "--epochs", "1", "--members", "2", "--arch", "lenet", "--speed", "off"]


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
    words = ["--dataset", f"npz:{tmp_path / 'own.npz'}"]
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
    assert _question(arch="somewhere.models:Net") is None
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text("x = 1\n", "utf-8")
    assert _question(arch="net.py:Net") is None  # what it imports may have changed
    Path("net").mkdir()
    assert _question(arch="net:Net") is None  # a package in this folder
    assert _recall.question("audit", AuditConfig(("m.pt",), dataset="digits", trust_pickle=True)).digest is None


def _question(**more: Any) -> str | None:
    return _recall.question("evaluate", EvaluateConfig(**more)).digest


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
    asked = _recall.Asked("evaluate", {}, "digest")
    _recall.remember(asked, tmp_path)
    assert (tmp_path / _recall.NOTE).exists()
    cell.write_text('{"environment": {"failed": "its worker died"}}', "utf-8")
    _recall.remember(asked, tmp_path)
    assert not (tmp_path / _recall.NOTE).exists()


def test_links_that_lead_nowhere_are_looked_at(tmp_path: Path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").symlink_to(tmp_path / "far.png")
    before = _question(dataset=f"imagefolder:{tmp_path / 'images'}")
    assert before == _question(dataset=f"imagefolder:{tmp_path / 'images'}") is not None
    (tmp_path / "far.png").write_bytes(b"1")
    assert _question(dataset=f"imagefolder:{tmp_path / 'images'}") not in (None, before)


def test_the_folder_is_that_of_the_options():
    usual = {"evaluate": EvaluateConfig().out, "audit": AuditConfig("m.pt", dataset="digits").out}
    assert {command: Path(out) for command, out in _recall.OUT.items()} == usual
    assert _recall._out(["evaluate", "--out", "a"]) == _recall._out(["audit", "--n", "1", "--out=a"]) == "a"


class Place:
    """A folder with an answer, and the same words asked there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder, folder / "out"
        self.words = [*WORDS, "--eps", "0.1", "--format", "json,csv", "--out", str(self.out)]

    def ask(self, *more: str, cwd: str = "", **environment: str) -> tuple[str, bool, int]:
        """Return what was printed, whether the command was read to print it, and the exit code."""
        words = [*self.words, *more]
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(cwd or self.folder)
            for name, value in environment.items():
                patch.setenv(name, value)
            with redirect_stdout(io.StringIO()):
                known = _recall.said_again(words)
            code, out, _ = invoke(*words)
        assert known in (None, out)
        return out, known is None, code


@pytest.fixture(scope="module")
def asked(first: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("again")
    shutil.copytree(first[0], folder / "out")
    return Place(folder)


@pytest.fixture
def place(asked: Place) -> Place:
    """Return the place as it is once the same words were asked."""
    if asked.ask()[1]:  # a copy, or something was changed by another test: it was asked in the long way
        said, read, code = asked.ask()
        assert (SAID in said, read, code) == (True, False, 0)
    return asked


def test_the_same_words_are_answered_before_anything_is_imported(place: Place):
    def ask() -> tuple[str, list[str]]:
        code = f"import sys; sys.argv = ['robustkit', *{place.words!r}]\nfrom robustkit.__main__ import main\n"
        code += "try:\n    main()\nexcept SystemExit:\n    pass\n"
        code += f"print([name for name in {HEAVY!r} if name in sys.modules])"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=place.folder, capture_output=True, text=True, timeout=120, check=True
        )
        *said, loaded = done.stdout.splitlines()
        return "\n".join(said), ast.literal_eval(loaded)

    said, loaded = ask()  # the text of this process was for another encoding
    assert "cyclopts" in loaded
    assert SAID in said
    own = ["threading"] if sys.version_info < (3, 11) else []  # of `platform`, by way of subprocess
    assert ask() == (said, own)


def test_the_text_is_that_of_the_results(place: Place):
    said = place.ask()[0]
    note = json.loads((place.out / _recall.NOTE).read_text())
    (place.out / _recall.NOTE).write_text(json.dumps({**note, "said": []}))
    assert place.ask() == (said, True, 0)
    assert place.ask() == (said, False, 0)


def test_another_screen_has_its_own_text(place: Place):
    wide = place.ask()[0]
    narrow, read, _ = place.ask(COLUMNS="40")
    assert read
    assert (narrow != wide, SAID in " ".join(narrow.split())) == (True, True)
    assert place.ask(COLUMNS="40") == (narrow, False, 0)
    assert place.ask() == (wide, False, 0)


def test_quiet_is_one_line_again(place: Place):
    path = f"{place.out / 'results.json'}\n"
    assert place.ask("-q")[0] == path
    assert place.ask("-q") == (path, False, 0)


def test_what_is_required_is_held_every_time(place: Place):
    for minimum, code in (("worst_case@0.1>=0", 0), ("worst_case@0.1>=0.999", 1)) * 2:
        said, *rest = place.ask("--min", minimum)
        assert (SAID in said, *rest) == (True, True, code)


def _flip(path: Path) -> None:
    """Change one bit in the middle of a file and give it back its time."""
    times, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _record(out: Path, kind: str, suffix: str) -> Path:
    """Return the file of a whole stored cell of a kind."""
    cells = (path for path in (out / "runs").glob("*.json") if path.with_suffix(".npz").is_file())
    return next(path.with_suffix(suffix) for path in cells if json.loads(path.read_text())["cell"]["kind"] == kind)


CHANGES: dict[str, Callable[[Path], None]] = {
    "a record is damaged": lambda out: _flip(_record(out, "attack", ".npz")),
    "a record is gone": lambda out: _record(out, "clean", ".json").unlink(),
    "a record was replaced": lambda out: shutil.copy(_record(out, "clean", ".npz"), _record(out, "attack", ".npz")),
    "a page was edited": lambda out: next((out / "tables").glob("*.csv")).write_text("1"),
    "a page is gone": lambda out: next((out / "tables").glob("*.csv")).unlink(),
    "results are damaged": lambda out: _flip(out / "results.json"),
    "the note is no note": lambda out: (out / _recall.NOTE).write_text("[]"),
    "the note is gone": lambda out: (out / _recall.NOTE).unlink(),
    "the study is another": lambda out: (out / "runs" / "study.json").write_text("{}"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_is_made_anew(place: Place, change: str):
    said = place.ask()[0]
    results = (place.out / "results.json").read_bytes()
    CHANGES[change](place.out)
    long, read, code = place.ask()
    assert (SAID in long, read, code) == (False, True, 0)
    assert _numbers(place.out / "results.json") == _numbers(results)
    assert place.ask() == (said, False, 0)


def _numbers(results: bytes | Path) -> Any:
    """Return results without what a clock decides."""
    found = json.loads(results if isinstance(results, bytes) else results.read_bytes())
    del found["run"]
    for evaluation in found["evaluations"]:
        del evaluation["seconds"]
    return found


def test_words_in_another_folder_or_environment_are_others(place: Place, tmp_path: Path):
    said, read, _ = place.ask(cwd=str(tmp_path))
    assert (SAID in said, read) == (True, True)
    assert SAID not in place.ask(ROBUSTKIT_SOMETHING="1")[0]
    assert SAID not in place.ask(CUDA_VISIBLE_DEVICES="")[0]


def test_the_source_and_what_is_installed_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package, place = tmp_path / "package", tmp_path / "site"
    (package / "attacks").mkdir(parents=True)
    (package / "attacks" / "pgd.py").write_text("1")
    place.mkdir()
    monkeypatch.setattr(ingredients, "PACKAGE", package)
    monkeypatch.syspath_prepend(str(place))
    seen = [_question()]
    (package / "attacks" / "pgd.py").write_text("2")
    seen.append(_question())
    (package / "attacks" / "new.py").touch()
    seen.append(_question())
    (place / "torch-9.9.dist-info").mkdir()
    seen.append(_question())
    (place / "unheard_of-9.9.dist-info").mkdir()
    assert len({*seen}) == 4
    assert None not in seen
    assert _question() == seen[-1]


def test_a_kill_between_pages_and_note_leaves_no_note(place: Place, monkeypatch: pytest.MonkeyPatch):
    asked = _recall.question("evaluate", EvaluateConfig())
    kept = (place.out / _recall.NOTE).read_bytes()

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        _recall.remember(asked, place.out)
    assert not (place.out / _recall.NOTE).exists()
    (place.out / _recall.NOTE).write_bytes(kept)


def test_a_program_that_asks_leaves_no_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    words = [*WORDS, "--eps", "0.1", "--format", "json", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["program", "evaluate", "--n", "1"])
    app(words, exit_on_error=False, print_error=False, result_action="return_value")
    assert json.loads((tmp_path / "out" / _recall.NOTE).read_text())["said"] == []
    with _recall.typed(words):
        assert _recall.said_again(words) is None


@pytest.mark.parametrize("words", [[], ["list"], ["run", "a.toml"], ["evaluate", "--config", "a.toml"]])
def test_words_with_something_behind_them_have_no_text(words: list[str]):
    assert _recall._saying(words) is None

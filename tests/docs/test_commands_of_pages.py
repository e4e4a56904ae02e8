"""Every command and block of Python on a page runs, with small sizes; what does not has a reason, and is counted."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import substitutions
from in_process import invoke
from pages import ROOT, Shown, blocks, commands, name, pages, shown

from robustkit.attacks import attack
from robustkit.defenses import defense
from robustkit.search import method
from robustkit.suites import detection

RUN = [page for page in pages() if any(not substitutions.reason(one.text) for one in shown(page))]


@pytest.mark.parametrize("page", RUN, ids=name)
def test_what_a_page_shows_runs(page: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "here"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    for registry in (attack, defense, method):  # what a page registers goes with it
        monkeypatch.setattr(registry, "_external", dict(registry._external))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(detection, "SETTINGS", substitutions.DETECTING)
    names: dict[str, Any] = {"__name__": "a_page"}
    shell: dict[str, str] = {}
    for one in shown(page):
        if substitutions.reason(one.text):
            continue
        started = time.process_time()
        run(one, names, shell)
        print(f"{time.process_time() - started:6.2f} s  {str(one).splitlines()[0]}")


def run(one: Shown, names: dict[str, Any], shell: dict[str, str]) -> None:
    """Run what a page shows, in the current folder, with small sizes."""
    text = substitutions.text_of(one.page, one.text)
    if one.kind == "file":
        Path(one.file).parent.mkdir(parents=True, exist_ok=True)
        Path(one.file).write_text(text, "utf-8")
        if not one.file.endswith(".toml"):
            compile(text, one.file, "exec")
    elif one.kind == "python":
        if "robustkit" not in names:
            exec(substitutions.COMMON + substitutions.BEFORE.get(one.page, ""), names)
        exec(compile(text, f"{one.page}:{one.line}", "exec"), names)
    elif one.text.startswith("python "):
        runpy.run_path(shlex.split(one.text)[1], run_name="__main__")
    elif not substitutions.sets(one.text, shell):
        words = substitutions.small(text, shell)
        code, _, err = invoke(*words)
        assert code in substitutions.codes(one.text), (
            f"{one}\nran as: {' '.join(words)}\nexit code {code}: {err[-600:]}"
        )


def test_what_is_not_run_is_counted():
    counted = Counter(substitutions.reason(one.text) for page in pages() for one in shown(page))
    del counted[""]
    assert counted == substitutions.COUNTS, "what is not run: change COUNTS where that is meant"


def test_every_substitution_is_used():
    said = [one.text for page in pages() for one in commands(page)]
    words = {word for text in said for word in shlex.split(text, comments=True)}
    assert set(substitutions.WORDS) <= words
    for pattern, _ in substitutions.NOT_RUN:
        assert any(re.search(pattern, text) for text in said), pattern
    for word in substitutions.EXITS:
        assert any(word in text for text in said), word
    for page, changes in substitutions.PIECES.items():
        whole = "\n".join(one.text for one in shown(ROOT / page))
        assert [old for old, _ in changes if old not in whole] == []


def test_an_attack_by_contributing_alone_is_found_and_keeps_every_promise(tmp_path: Path):
    """As a new contributor would: the file that CONTRIBUTING.md shows, in its place; nobody tells the suite of it."""
    [(place, text)] = [
        (re.search(r"tried: (\S+)", above)[1], text)
        for _, _, text, above in blocks(ROOT / "CONTRIBUTING.md")
        if "tried:" in above
    ]
    shutil.copytree(ROOT / "robustkit", tmp_path / "robustkit")  # with what is compiled: nothing is compiled again
    shutil.copytree(ROOT / "tests" / "conformance", tmp_path / "tests" / "conformance")
    for file in ("conftest.py", "crashes.py"):
        shutil.copy(ROOT / "tests" / file, tmp_path / "tests")
    (tmp_path / place).write_text(text, "utf-8")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    asked = [
        "-q",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        "-k",
        Path(place).stem,
        str(tmp_path / "tests/conformance/test_attacks.py"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--rootdir", str(tmp_path), *asked],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-500:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 20

"""The cache is shown and cleared by kind and age; nothing that is not known to be ours goes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from in_process import invoke

from robustkit.base import cache
from robustkit.base.errors import UserError
from robustkit.commands.cache import age, size

DAY = 86400


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with an old ensemble, a new one, a trial, and a folder of somebody else."""
    monkeypatch.setenv("ROBUSTKIT_CACHE", str(tmp_path / "cache"))
    for name, content, days in [
        ("ensembles/old/weights.safetensors", 3000, 40), ("ensembles/new/weights.safetensors", 2000, 0),
        ("ensembles/new/ensemble.json", 10, 50), ("fastpath/a.json", 20, 35), ("thesis/chapter.tex", 500, 90),
    ]:  # fmt: skip
        file = tmp_path / "cache" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * content)
        moment = time.time() - days * DAY
        os.utime(file, (moment, moment))
        os.utime(file.parent, (moment, moment))
    moment = time.time()
    os.utime(tmp_path / "cache" / "ensembles" / "new", (moment, moment))
    return tmp_path / "cache"


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_it_says_where_how_large_and_what(filled: Path):
    code, printed, error = invoke("cache")
    assert (code, error) == (0, "")
    lines = printed.splitlines()
    assert lines[0] == f"cache: {filled}"
    rows = {line.split()[0]: line.split() for line in lines if line.split()}
    assert rows["ensembles"][1] == "2"
    assert "40" in rows["ensembles"]
    assert rows["fastpath"][1:3] == ["1", "20"]
    assert "left alone: thesis" in printed
    assert len(files(filled)) == 5


def test_what_is_old_is_cleared_and_an_entry_is_as_old_as_its_newest_file(filled: Path):
    code, printed, _ = invoke("cache", "--clear", "--older-than", "30d")
    assert code == 0
    assert printed.splitlines()[-1].startswith("deleted: 2 entries, ")
    assert files(filled) == {
        "ensembles/new/weights.safetensors", "ensembles/new/ensemble.json", "thesis/chapter.tex",
    }  # fmt: skip


def test_without_clear_an_age_only_shows(filled: Path):
    _, printed, _ = invoke("cache", "--older-than", "30d", "--kind", "ensembles")
    assert next(line for line in printed.splitlines() if line.startswith("ensembles")).split()[1] == "1"
    assert "fastpath" not in printed
    assert len(files(filled)) == 5


def test_all_of_it_but_what_is_not_ours_is_cleared(filled: Path):
    code, _, _ = invoke("cache", "--clear")
    assert code == 0
    assert files(filled) == {"thesis/chapter.tex"}
    code, printed, _ = invoke("cache", "--clear")
    assert (code, "deleted" in printed) == (0, False)


def test_a_kind_may_be_a_file(filled: Path):
    (filled / "costs.json").write_text("{}")
    assert [(one.kind, one.size) for one in cache.entries(["costs.json"])] == [("costs.json", 2)]
    invoke("cache", "--clear", "--kind", "costs.json")
    assert not (filled / "costs.json").exists()
    assert len(files(filled)) == 5


def test_a_link_is_removed_and_what_it_leads_to_is_not(filled: Path, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").write_text("x")
    (filled / "data").mkdir()
    (filled / "data" / "mnist").symlink_to(tmp_path / "elsewhere")
    invoke("cache", "--clear", "--kind", "data")
    assert not (filled / "data" / "mnist").is_symlink()
    assert (tmp_path / "elsewhere" / "precious").is_file()
    assert "ensembles/old/weights.safetensors" in files(filled)


@pytest.mark.parametrize(("answer", "left"), [("n\n", 5), ("y\n", 1), ("\n", 5)])
def test_a_person_at_a_terminal_is_asked(filled: Path, monkeypatch: pytest.MonkeyPatch, answer: str, left: int):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes the output for a terminal
    monkeypatch.setattr("builtins.input", lambda *_: answer.strip())
    invoke("cache", "--clear")
    assert len(files(filled)) == left
    invoke("cache", "--clear", "--yes")
    assert len(files(filled)) == 1


def test_a_cache_that_is_not_there_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ROBUSTKIT_CACHE", str(tmp_path / "none"))
    code, printed, _ = invoke("cache", "--clear")
    assert code == 0
    assert next(line for line in printed.splitlines() if line.startswith("all")).split()[1:] == ["0", "0", "B"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--clear", "--older-than", "30"], "age '30' has no unit; write minutes, hours, days or weeks"),
        (["--older-than=-3d"], "age '-3d' is below 0"),
        (["--older-than", "manyd"], "age 'many' is not a number"),
        (["--kind", "ensemble"], "unknown kind 'ensemble': did you mean 'ensembles'"),
        (["--yes"], "--yes has no effect without --clear"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(filled: Path, arguments: list[str], message: str):
    code, _, error = invoke("cache", *arguments)
    assert code == 2
    assert message in error
    assert len(files(filled)) == 5


def test_sizes_and_ages_as_people_read_them():
    assert [size(n) for n in (0, 999, 1500, 12_345_678, 5e12)] == ["0 B", "999 B", "1.5 kB", "12.3 MB", "5000.0 GB"]
    assert [age(s) for s in (30, 3 * DAY, 1.5 * DAY)] == ["30 s", "3 d", "36 h"]
    assert [cache.seconds(text) for text in ("90m", "12h", "30d", "2w")] == [5400, 43200, 30 * DAY, 14 * DAY]
    with pytest.raises(UserError):
        cache.seconds("")

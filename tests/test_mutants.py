"""What decides which tests a mutant meets, and what its share means; the mutants themselves need cosmic-ray."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import mutant_runs
import pytest
from _pytest.config import get_config
from mutant_runs import Known
from mutant_swap import living, swap
from mutants import interval
from mutating import Mutant, changed, meaning
from statsmodels.stats.proportion import proportion_confint

TEXT = '''"""A module."""

LIMIT = 3


def f(x: int, y: float = 1.0) -> float:
    """Say what."""
    total = (
        x
        + y
    )
    if total > LIMIT:
        return total
    return -total
'''
FILE = "tests/test_a.py"


def test_changed_lines_are_those_that_another_text_has_not():
    assert changed(TEXT, TEXT.replace("LIMIT = 3", "LIMIT = 4")) == range(3, 4)
    assert changed(TEXT, TEXT.replace("        + y\n", "        - y\n")) == range(10, 11)
    assert changed("a\nb\nc\n", "a\nx\ny\nc\n") == range(2, 3)


def test_annotations_and_docstrings_of_decorators_are_no_other_program():
    assert meaning(TEXT.replace("x: int", "x: str").replace("-> float", "-> int")) == meaning(TEXT)
    assert meaning(TEXT.replace("1.0", "2.0")) != meaning(TEXT)


@pytest.fixture
def known(tmp_path: Path) -> tuple[Known, Path]:
    """Three tests, of which one runs the branch; their fixture of a whole file, the function's first statement."""
    path = tmp_path / "module.py"
    path.write_text(TEXT, "utf-8")
    lines = {
        3: [""], 8: [FILE], 9: [FILE], 12: [f"{FILE}::slow"], 13: [f"{FILE}::slow"], 14: ["tests/test_b.py::other"],
    }  # fmt: skip
    tests = Known({f"{FILE}::slow": 3.0, f"{FILE}::quick": 0.1, "tests/test_b.py::other": 0.2}, {str(path): lines})
    return tests, path


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (13, [f"{FILE}::slow"]),
        (14, ["tests/test_b.py::other"]),
        (10, [f"{FILE}::quick", f"{FILE}::slow"]),  # a line of a statement that a fixture of the file runs
        (6, [f"{FILE}::quick", "tests/test_b.py::other", f"{FILE}::slow"]),  # a default: those of the function
        (3, [f"{FILE}::quick", "tests/test_b.py::other", f"{FILE}::slow"]),  # run at import: those of the file
    ],
)
def test_a_mutant_meets_the_tests_that_run_its_line_the_shortest_first(known, line: int, expected: list[str]):
    tests, path = known
    assert tests.of(Mutant(path, TEXT, range(line, line + 1))) == expected


def test_tests_of_some_seconds_are_enough(known, monkeypatch: pytest.MonkeyPatch):
    tests, path = known
    monkeypatch.setattr(mutant_runs, "ENOUGH", 1.0)
    assert tests.of(Mutant(path, TEXT, range(3, 4))) == [f"{FILE}::quick", "tests/test_b.py::other"]


def test_what_no_test_runs_meets_none(known, tmp_path: Path):
    tests, _ = known
    (tmp_path / "another.py").write_text(TEXT, "utf-8")
    assert tests.of(Mutant(tmp_path / "another.py", TEXT, range(14, 15))) == []


SOURCE = """
LIMIT = 3


def outer(values):
    def inner(value):
        return value + LIMIT

    return [inner(value) for value in values]


def made(function):
    def call(value):
        return function(value) * 2

    return call


doubled = made(abs)


class Number:
    def __init__(self, value=1):
        self.value = value + 1
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A module that is imported already."""
    (tmp_path / "swapped.py").write_text(SOURCE, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("swapped"), tmp_path / "swapped.py"
    del sys.modules["swapped"]


@pytest.mark.parametrize(
    ("old", "new", "asked", "expected"),
    [
        ("value + LIMIT", "value - LIMIT", lambda module: module.outer([1]), [-2]),
        ("(value) * 2", "(value) * 3", lambda module: module.doubled(-1), 3),  # a closure that lives
        ("value + 1", "value + 2", lambda module: module.Number().value, 3),
    ],
)
def test_a_living_function_is_replaced(
    module, old: str, new: str, asked: Callable[[ModuleType], object], expected: object
):
    living_one, path = module
    assert swap(Mutant(path, SOURCE.replace(old, new), range(1)), living(path.parent))
    assert asked(living_one) == expected


@pytest.mark.parametrize(
    ("old", "new"), [("LIMIT = 3", "LIMIT = 4"), ("value=1", "value=2"), ("made(abs)", "made(len)")]
)
def test_what_is_run_at_import_is_not_replaced(module, old: str, new: str):
    _, path = module
    assert not swap(Mutant(path, SOURCE.replace(old, new), range(1)), living(path.parent))


@pytest.mark.parametrize(("killed", "drawn"), [(9, 10), (430, 500), (500, 500)])
def test_interval_is_wilsons(killed: int, drawn: int):
    assert interval(killed, drawn) == pytest.approx(proportion_confint(killed, drawn, method="wilson"), abs=1e-5)


def test_the_tests_load_without_the_plugins_that_mutants_leave_out(request: pytest.FixtureRequest):
    path = str(Path(__file__).with_name("conftest.py"))
    [shared] = [one for one in request.config.pluginmanager.get_plugins() if getattr(one, "__file__", "") == path]
    bare = get_config().pluginmanager  # of pytest alone
    bare.register(shared)
    bare.check_pending()

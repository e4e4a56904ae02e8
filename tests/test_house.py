"""The house stays in order: small files and functions, no circles, floors, a page and tests for every package."""

from __future__ import annotations

import ast
import graphlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
HOUSE = ROOT / "robustkit"
FILES = sorted(HOUSE.rglob("*.py"))
PACKAGES = sorted(folder.parent.name for folder in HOUSE.glob("*/__init__.py"))
MODULES, LINES, STATEMENTS = 6, 300, 60  # at most: beside the packages, of a file, of a function without its docstring
ELSEWHERE = {  # where the tests of packages without a folder of that name lie
    "api": "pipeline/test_before_work.py",
    "commands": "test_cli.py",
    "models": "conformance/test_models.py",
    "ood": "suites/test_ood_suite.py",
}


def test_few_modules_stand_beside_the_packages():
    assert len(list(HOUSE.glob("*.py"))) <= MODULES


def test_no_file_is_long():
    lengths = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in FILES}
    assert not {name: lines for name, lines in lengths.items() if lines > LINES}


def functions(file: Path) -> Iterator[tuple[str, int]]:
    """Yield the functions of a file with their lines, from the first statement after the docstring to the end."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            code = node.body[ast.get_docstring(node) is not None :]
            yield f"{file.relative_to(ROOT)}: {node.name}", code[-1].end_lineno - code[0].lineno + 1 if code else 0


def test_no_function_is_long():
    assert not {name: lines for file in FILES for name, lines in functions(file) if lines > STATEMENTS}


def test_no_circle_of_files():
    graph = grimp.build_graph("robustkit", cache_dir=None)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    assert len(imports) == len(FILES)
    graphlib.TopologicalSorter(imports).prepare()  # a CycleError names the files


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts of ``root/pyproject.toml`` on ``root/robustkit``."""
    command = "from importlinter.cli import lint_imports_command as main; main(['--no-cache'])"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run([sys.executable, "-c", command], cwd=root, env=env, capture_output=True, text=True)


def test_a_package_imports_only_what_stands_below_it():
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Our sources and contracts, to plant something in."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(HOUSE, tmp_path / "robustkit", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_wrong_imports_are_named(copy: Path):
    upwards = copy / "robustkit" / "records" / "store.py"
    upwards.write_text(upwards.read_text() + "\n\ndef late() -> None:\n    from robustkit.trust import _plan\n")
    sideways = copy / "robustkit" / "data" / "npz.py"
    sideways.write_text(sideways.read_text() + "\nfrom robustkit.models import lenet\n")
    heavy = copy / "robustkit" / "metrics" / "maps.py"
    heavy.write_text(heavy.read_text() + "\nimport torch\n")
    (copy / "robustkit" / "attic").mkdir()
    (copy / "robustkit" / "attic" / "__init__.py").touch()
    done = lint_imports(copy)
    assert done.returncode == 1
    assert "robustkit.records is not allowed to import robustkit.trust:" in done.stdout
    assert "robustkit.records.store -> robustkit.trust._plan" in done.stdout
    assert "robustkit.data is not allowed to import robustkit.models:" in done.stdout
    assert "robustkit.metrics.maps -> torch" in done.stdout
    assert "not listed as layers:\n\n- robustkit.attic" in done.stdout  # a package without a floor


def test_page_of_the_house_is_current():
    spec = importlib.util.spec_from_file_location("make_architecture", ROOT / "docs" / "make_architecture.py")
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made  # where a dataclass looks for its module
    spec.loader.exec_module(made)
    stack, remedy = made.floors(), "run python docs/make_architecture.py"
    page = made.PAGE.read_text()
    assert page == made.markdown(stack), remedy
    assert made.PICTURE.read_text() == made.svg(stack), remedy
    assert {f"robustkit/{name}/" for name in PACKAGES} <= {line.removeprefix("## ") for line in page.splitlines()}


@pytest.mark.parametrize("package", PACKAGES)
def test_package_says_what_it_is_for(package: str):
    said = ast.get_docstring(ast.parse((HOUSE / package / "__init__.py").read_text()))
    assert said
    assert said.count(".") >= 2


@pytest.mark.parametrize("package", PACKAGES)
def test_package_has_tests_in_a_place_of_its_name(package: str):
    tests = ROOT / "tests"
    own, other = list((tests / package).glob("test_*.py")), ELSEWHERE.get(package)
    assert own or (other and (tests / other).is_file())

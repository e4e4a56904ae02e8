"""Tests run in forked processes, which have torch already: once to note which test runs which line, then on mutants."""

from __future__ import annotations

import ast
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from mutating import ROOT, Finder, Mutant

PATIENCE, LEAST_PATIENCE = 5.0, 10.0  # times what the tests take, and seconds, until a mutant hangs: noticed as well
ENOUGH = 20.0  # seconds of tests, the shortest first, that a mutant meets at most
MEMORY = 24 << 30  # bytes of addresses, of which torch alone takes several billion
PASSED, FAILED, BROKEN_OFF, NO_TESTS = 0, 1, 2, 5  # pytest's exit codes


class Noting:
    """A plugin of pytest: which test runs which line of robustkit, and how long each takes."""

    def __init__(self, folder: Path, package: str) -> None:
        import coverage

        self.file = folder / "map.json"
        place = f"{ROOT}/robustkit/{package}"
        self.coverage = coverage.Coverage(data_file=None, include=[f"{place}.py", f"{place}/*"], config_file=False)
        self.coverage.start()
        self.seconds: dict[str, float] = {}
        self.context = ""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[Any]:
        """Note lines under the test's name."""
        started = time.monotonic()
        self._switch(item.nodeid)
        try:
            return (yield)
        finally:
            self._switch("")
            self.seconds[item.nodeid] = time.monotonic() - started

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, request: Any) -> Iterator[Any]:
        """Note lines of a fixture that tests share under what they share: a file, or nothing where it is all."""
        before = self.context
        if request.scope != "function":
            self._switch(request.node.nodeid)
        try:
            return (yield)
        finally:
            self._switch(before)

    def _switch(self, context: str) -> None:
        self.context = context
        self.coverage.switch_context(context)

    def pytest_sessionfinish(self) -> None:
        """Write it all."""
        self.coverage.stop()
        data = self.coverage.get_data()
        lines = {name: data.contexts_by_lineno(name) for name in data.measured_files()}
        self.file.write_text(json.dumps({"seconds": self.seconds, "lines": lines}), "utf-8")


class Chosen:
    """A plugin of pytest: some tests in an order, with what the first run trained."""

    def __init__(self, tests: Sequence[str], cache: Path) -> None:
        self.order = {name: at for at, name in enumerate(tests)}
        self.cache = cache

    @pytest.fixture(autouse=True, scope="session")
    def _trained_before(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        if self.cache.exists():
            shutil.copytree(self.cache, tmp_path_factory.getbasetemp() / "cache", dirs_exist_ok=True)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave the others out."""
        items[:] = sorted((one for one in items if one.nodeid in self.order), key=lambda one: self.order[one.nodeid])


def forked(plugin: Any, tests: Sequence[str], folder: Path, patience: float, mutant: Mutant | None = None) -> int:
    """Run tests in a process of its own until one fails; return pytest's exit code, or a failure's after too long."""
    child = os.fork()
    if not child:
        code = FAILED
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            out = os.open(folder / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(out, 1)
            os.dup2(out, 2)
            if mutant:
                sys.meta_path.insert(0, Finder(mutant))
            plain = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:logging", "-o", "addopts=", "--strict-markers"]
            made = plugin()
            code = int(pytest.main([*plain, f"--basetemp={folder}/temporary", *tests], plugins=[made]))
        finally:
            os._exit(code)
    end = time.monotonic() + patience
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return max(FAILED, abs(code)) if (code := os.waitstatus_to_exitcode(status)) < 0 else code
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return FAILED


class Tests:
    """The tests of a package, and which of them run which line of it.

    Raises
    ------
    SystemExit
        Where they do not pass before anything is changed: in their own order, and the shortest first.
    """

    def __init__(self, package: str, paths: Sequence[str]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mutants-"))
        started = time.monotonic()
        if forked(lambda: Noting(self.folder, package), paths, self.folder, 3600):
            raise SystemExit(f"the tests of {package} fail before anything is changed: {self.folder / 'said.txt'}")
        found = json.loads((self.folder / "map.json").read_text("utf-8"))
        self.seconds: dict[str, float] = found["seconds"]
        self.lines: dict[str, dict[int, list[str]]] = {
            name: {int(line): contexts for line, contexts in lines.items()} for name, lines in found["lines"].items()
        }
        self.cache = self.folder / "cache"
        if (self.folder / "temporary" / "cache").exists():
            shutil.copytree(self.folder / "temporary" / "cache", self.cache)
        self.took = time.monotonic() - started
        if self.run(sorted(self.seconds, key=self.seconds.__getitem__), 3600) != PASSED:
            raise SystemExit(f"the shortest first, they fail before anything is changed: {self.folder / 'said.txt'}")

    def run(self, tests: Sequence[str], patience: float, mutant: Mutant | None = None) -> int:
        """Run some of them; return pytest's exit code."""
        files = dict.fromkeys(name.partition("::")[0] for name in tests)
        return forked(lambda: Chosen(tests, self.cache), list(files), self.folder, patience, mutant)

    def of(self, mutant: Mutant) -> list[str]:
        """Return the tests that run what is changed, the shortest first, as many as are enough."""
        lines = self.lines.get(str(mutant.path), {})
        contexts: set[str] = set()
        for part in places(mutant):
            contexts = {context for line in part for context in lines.get(line, ())} - {""}
            if contexts:
                break
        tests = [name for name in self.seconds if name in contexts or name.partition("::")[0] in contexts]
        total, found = 0.0, []
        for name in sorted(tests, key=self.seconds.__getitem__):
            total += self.seconds[name]
            if found and total > ENOUGH:
                break
            found.append(name)
        return found

    def survives(self, mutant: Mutant) -> bool:
        """Return whether no test notices."""
        tests = self.of(mutant)
        if not tests:
            return True
        patience = max(LEAST_PATIENCE, PATIENCE * sum(self.seconds[name] for name in tests))
        return self.run(tests, patience, mutant) in (PASSED, NO_TESTS)

    def close(self) -> None:
        """Remove what was written."""
        shutil.rmtree(self.folder, ignore_errors=True)


def places(mutant: Mutant) -> Iterator[range]:
    """Yield the lines whose tests are asked: of the statement, else of the function around it, else of the file."""
    tree = ast.parse(mutant.path.read_text("utf-8"))
    around: dict[type, list[ast.AST]] = defaultdict(list)
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
            if first <= mutant.lines[0] and mutant.lines[-1] <= (node.end_lineno or first):
                kind = ast.FunctionDef if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else ast.stmt
                around[kind].append(node)
    statement = max(around[ast.stmt], key=lambda node: node.lineno, default=None)
    if statement is None or isinstance(statement, ast.ClassDef) or hasattr(statement, "body"):
        yield mutant.lines
    else:
        yield range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)
    for function in sorted(around[ast.FunctionDef], key=lambda node: -node.lineno):
        yield range(function.body[0].lineno, (function.end_lineno or function.lineno) + 1)
    yield range(1, len(mutant.path.read_text("utf-8").splitlines()) + 1)

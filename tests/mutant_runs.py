"""Tests run in forked processes, which have torch and the tests already: to note which test runs which line, then on
mutants. A mutant of a function's body is put into the living function; one of what is run at import is imported anew.
"""

from __future__ import annotations

import ast
import importlib
import json
import math
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mutant_swap import living, swap
from mutating import ROOT, Finder, Mutant

# Times what a test takes, and seconds, until a mutant hangs, which is noticed as well: of the processor, since other
# work on the machine may slow everything down; of the clock, for what waits without computing, so many times that.
PATIENCE, LEAST_PATIENCE, WAITING = 4.0, 3.0, 12.0
ENOUGH = 5.0  # seconds of tests, the shortest first, that a mutant meets at most
MEMORY = 24 << 30  # bytes of addresses, of which torch alone takes several billion
PASSED, FAILED, NO_TESTS, AT_IMPORT = 0, 1, 5, 99  # exit codes, of which the last is no code of pytest's
PLAIN = ("-x", "-q", "-p", "no:cacheprovider", "-p", "no:logging", "-o", "addopts=", "--strict-markers")


def forked(work: Callable[[], int], patience: float, said: Path) -> int:
    """Do work in a process of its own; return the exit code that it gives, or a failure's after too long."""
    child = os.fork()
    if not child:
        code = FAILED
        try:
            os.setsid()
            out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(out, 1)
            os.dup2(out, 2)
            code = int(work())
        finally:
            os._exit(code)
    end = time.monotonic() + WAITING * patience
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return code if (code := os.waitstatus_to_exitcode(status)) >= 0 else FAILED
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return FAILED


@dataclass
class Known:
    """Which test runs which line.

    Attributes
    ----------
    seconds : dict
        By test.
    lines : dict
        By file and line: the tests that run it; a file of tests where a fixture does that all of it share.
    """

    seconds: dict[str, float]
    lines: dict[str, dict[int, list[str]]]

    @classmethod
    def read(cls, file: Path) -> Known:
        """Read what :class:`Noting` wrote."""
        found = json.loads(file.read_text("utf-8"))
        lines = {name: {int(line): tests for line, tests in by.items()} for name, by in found["lines"].items()}
        return cls(found["seconds"], lines)

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

    def patience(self, tests: Sequence[str]) -> float:
        """Return after how many seconds of the processor tests hang."""
        return sum(max(LEAST_PATIENCE, PATIENCE * self.seconds[name]) for name in tests)


def places(mutant: Mutant) -> Iterator[range]:
    """Yield the lines whose tests are asked: of the statement, else of the function around it, else of the file."""
    text = mutant.path.read_text("utf-8")
    around: dict[type, list[Any]] = defaultdict(list)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.stmt):
            first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
            if first <= mutant.lines[0] and mutant.lines[-1] <= (node.end_lineno or first):
                kind = ast.FunctionDef if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else ast.stmt
                around[kind].append(node)
    statement = max(around[ast.stmt], key=lambda node: node.lineno, default=None)
    if statement is None or hasattr(statement, "body"):
        yield mutant.lines
    else:
        yield range(statement.lineno, statement.end_lineno + 1)
    for function in sorted(around[ast.FunctionDef], key=lambda node: -node.lineno):
        yield range(function.body[0].lineno, function.end_lineno + 1)
    yield range(1, len(text.splitlines()) + 1)


class Noting:
    """A plugin of pytest: which test runs which line of a package, and how long each takes of the processor."""

    def __init__(self, package: str) -> None:
        import coverage

        place = f"{ROOT}/robustkit/{package}"
        self.coverage = coverage.Coverage(data_file=None, include=[f"{place}.py", f"{place}/*"], config_file=False)
        self.coverage.start()
        self.seconds: dict[str, float] = {}
        self.context = ""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[Any]:
        """Note lines under the test's name."""
        started = time.process_time()
        self._switch(item.nodeid)
        try:
            return (yield)
        finally:
            self._switch("")
            self.seconds[item.nodeid] = time.process_time() - started

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

    def write(self, file: Path) -> None:
        """Write it all."""
        self.coverage.stop()
        data = self.coverage.get_data()
        lines = {name: data.contexts_by_lineno(name) for name in data.measured_files()}
        file.write_text(json.dumps({"seconds": self.seconds, "lines": lines}), "utf-8")


class Trained:
    """A plugin of pytest: what the first run trained is there."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache

    @pytest.fixture(autouse=True, scope="session")
    def _trained_before(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        if self.cache.exists():
            shutil.copytree(self.cache, tmp_path_factory.getbasetemp() / "cache", dirs_exist_ok=True)


class Chosen(Trained):
    """A plugin of pytest: some tests only, in an order."""

    def __init__(self, tests: Sequence[str], cache: Path) -> None:
        super().__init__(cache)
        self.order = {name: at for at, name in enumerate(tests)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave the others out."""
        items[:] = sorted((one for one in items if one.nodeid in self.order), key=lambda one: self.order[one.nodeid])


class Judge(Trained):
    """A plugin of pytest: instead of running the tests, forks a process for each mutant, which runs those it needs."""

    def __init__(self, folder: Path, package: str, mutants: Sequence[Mutant]) -> None:
        super().__init__(folder / "cache")
        self.folder, self.package, self.mutants = folder, package, mutants
        self.failed = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a failure."""
        self.failed = self.failed or report.failed

    def run(self, items: Sequence[pytest.Item], known: Known | None = None) -> int:
        """Run tests until one fails; one that hangs, by what is known of it, ends the process."""
        for item, following in zip(items, [*items[1:], None], strict=True):
            if known:
                seconds = math.ceil(time.process_time() + known.patience([item.nodeid]))
                resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self.failed:
                return FAILED
        return PASSED

    def note(self, session: pytest.Session) -> int:
        """Run all tests, noting which runs what."""
        noting = Noting(self.package)
        session.config.pluginmanager.register(noting)
        code = self.run(session.items)
        noting.write(self.folder / "map.json")
        return code

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Note, then judge; what each mutant comes to is written to ``judged.txt``, a line each."""
        said = self.folder / "said.txt"
        started = time.monotonic()
        if forked(lambda: self.note(session), 3600, said) != PASSED:
            return True
        if (self.folder / "temporary" / "cache").exists():
            shutil.copytree(self.folder / "temporary" / "cache", self.cache)
        known = Known.read(self.folder / "map.json")
        by_name = {item.nodeid: item for item in session.items}
        for path in {mutant.module for mutant in self.mutants}:
            importlib.import_module(path)
        functions = living(ROOT / "robustkit")
        with (self.folder / "judged.txt").open("w", buffering=1) as out:
            print(f"{time.monotonic() - started:.0f}", file=out)
            for mutant in self.mutants:
                tests = known.of(mutant)
                items = [by_name[name] for name in tests]

                def judged(mutant: Mutant = mutant, items: Sequence[pytest.Item] = items) -> int:
                    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
                    return self.run(items, known) if swap(mutant, functions) else AT_IMPORT

                print(forked(judged, known.patience(tests), said) if tests else NO_TESTS, file=out)
        return True


def imported(mutant: Mutant, tests: Sequence[str], folder: Path) -> int:
    """Run tests where the mutated module is imported in place of the file; return pytest's exit code."""
    known = Known.read(folder / "map.json")
    patience = LEAST_PATIENCE + known.patience(tests)

    def work() -> int:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(patience), resource.RLIM_INFINITY))
        sys.meta_path.insert(0, Finder(mutant))
        files = dict.fromkeys(name.partition("::")[0] for name in tests)
        return int(
            pytest.main([*PLAIN, f"--basetemp={folder}/temporary", *files], plugins=[Chosen(tests, folder / "cache")])
        )

    return forked(work, patience, folder / "said.txt")


def judge(package: str, paths: Sequence[str], mutants: Sequence[Mutant]) -> Iterator[tuple[Mutant, bool, int]]:
    """Yield each mutant, whether it survives, and how many tests it met.

    Raises
    ------
    SystemExit
        Where the tests do not pass before anything is changed.
    """
    folder = Path(tempfile.mkdtemp(prefix="mutants-"))
    words = [*PLAIN, f"--basetemp={folder}/temporary", *paths]
    forked(lambda: int(pytest.main(words, plugins=[Judge(folder, package, mutants)])), 1e6, folder / "collected.txt")
    if not (folder / "judged.txt").exists():
        raise SystemExit(f"the tests of {package} fail before anything is changed, or are none: {folder}/*.txt")
    known = Known.read(folder / "map.json")
    seconds, *codes = map(int, (folder / "judged.txt").read_text("utf-8").split())
    print(f"{len(known.seconds)} tests of {package}, without a mutant: {seconds} s", flush=True)
    for mutant, code in zip(mutants, codes, strict=True):
        tests = known.of(mutant)
        if code == AT_IMPORT:
            code = imported(mutant, tests, folder)
        yield mutant, code in (PASSED, NO_TESTS), len(tests)
    shutil.rmtree(folder, ignore_errors=True)

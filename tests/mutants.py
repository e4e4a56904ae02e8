"""Which changes of the code no test notices: ``python tests/mutants.py metrics/roc`` (needs cosmic-ray, and fork).

Mutants are cosmic-ray's: one operator, number, comparison, keyword replaced at a time. Those that change annotations
only, or nothing that is run, are left out. What runs them is here: cosmic-ray starts a process for each, which imports
torch for seconds; here a process that has torch is forked, the child imports the mutated module in place of the file,
and runs the tests of its package until one fails. Files are not changed.

``--most 100`` takes that many of all, drawn with a seed: enough for a share to within ten points. Prints the survivors
as differences, then the share killed; exits with 1 where that is below ``--least``.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

ROOT = Path(__file__).parents[1]
# The packages that are held to a share, and the tests that have to notice.
TESTS = {
    "functional": ("tests/functional",),
    "metrics": ("tests/metrics",),
    "trust": ("tests/trust/test_each_check.py", "tests/trust/test_plan.py", "tests/trust/test_stored_checks.py"),
    "ensembles/fusion": ("tests/ensembles/test_fusion.py", "tests/ensembles/test_random.py"),
}
PATIENCE, LEAST_PATIENCE = 5.0, 20.0  # times what the tests take, and seconds, until a mutant hangs: noticed as well


class Mutated(importlib.machinery.SourceFileLoader):
    """Loads one module from another text than its file's."""

    def __init__(self, name: str, path: Path, text: str) -> None:
        super().__init__(name, str(path))
        self.text = text

    def get_code(self, fullname: str) -> CodeType:
        """Compile the text; no bytecode is read or kept."""
        return compile(self.text, self.path, "exec", dont_inherit=True)


class Finder(importlib.abc.MetaPathFinder):
    """Finds one module by its name."""

    def __init__(self, name: str, path: Path, text: str) -> None:
        self.name, self.path, self.text = name, path, text

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Return the specification of the mutated module."""
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(
            name, self.path, loader=Mutated(name, self.path, self.text),
            submodule_search_locations=[str(self.path.parent)] if self.path.name == "__init__.py" else None,
        )  # fmt: skip


def meaning(text: str) -> str:
    """Return a text's tree without annotations, docstrings and the source that decorators name."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns, node.decorator_list = None, []
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Name("object")
    return ast.dump(tree)


def mutants(text: str) -> Iterator[str]:
    """Yield every mutant of a module that is another program."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    own = meaning(text)
    for name in sorted(operator_names()):
        if any(word in name.lower() for word in ("noop", "no-op", "decorator", "variable")):  # the last want arguments
            continue
        operator, occurrence = get_operator(name)(), 0
        while (made := mutate_code(text, operator, occurrence)) is not None:
            occurrence += 1
            try:
                if meaning(made) != own:
                    yield made
            except SyntaxError:
                continue


def survives(finder: Finder | None, tests: list[str], patience: float) -> bool:
    """Run the tests in a child process; return whether all pass."""
    child = os.fork()
    if not child:
        try:
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            if finder:
                sys.meta_path.insert(0, finder)
            import pytest

            os._exit(int(pytest.main(["-x", "-q", "-n", "0", "-p", "no:cacheprovider", *tests])))
        finally:
            os._exit(70)
    end = time.monotonic() + patience
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def files(target: str) -> tuple[list[Path], list[str]]:
    """Return the files of a target and the tests that are to notice."""
    package = next((name for name in TESTS if target == name or target.startswith(f"{name}/")), None)
    if package is None:
        raise SystemExit(f"'{target}' is none of {', '.join(TESTS)}, nor a module of one")
    place = ROOT / "robustkit" / target
    found = sorted(place.glob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    return [path for path in found if path.name != "__init__.py" or target in TESTS], list(TESTS[package])


def rounds(path: Path, tests: list[str]) -> list[list[str]]:
    """Return what to ask one after the other: the tests of a module's name, if there are such, then all."""
    own = [file for test in tests for file in ROOT.glob(f"{test}/test_{path.stem.strip('_')}.py")]
    return [[str(file)] for file in own] + [tests]


def allowed(tests: list[str], known: dict[str, float]) -> float:
    """Return how many seconds the tests may take; measured once without a mutant, where they have to pass."""
    key = " ".join(tests)
    if key not in known:
        started = time.monotonic()
        if not survives(None, tests, 3600):
            raise SystemExit(f"{key} fail before anything is changed")
        known[key] = max(LEAST_PATIENCE, PATIENCE * (time.monotonic() - started))
    return known[key]


def warm() -> None:
    """Import what takes long and is not mutated."""
    for name in ("numpy", "scipy.stats", "sklearn.datasets", "torch", "pytest", "torchvision"):
        importlib.import_module(name)
    sys.modules["torch"].set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.path.insert(0, str(ROOT))
    os.chdir(ROOT)


def main() -> None:
    """Mutate, test, and say what survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", default=list(TESTS), help="packages, or modules like metrics/roc")
    parser.add_argument("--most", type=int, help="only so many of all, drawn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--least", type=float, default=0.85, help="share that has to be killed")
    args = parser.parse_args()
    warm()
    every: list[tuple[Path, str, list[str]]] = []
    for target in args.targets:
        found, tests = files(target)
        every += [(path, text, tests) for path in found for text in mutants(path.read_text("utf-8"))]
    chosen = every if args.most is None else random.Random(args.seed).sample(every, min(args.most, len(every)))
    patience: dict[str, float] = {}
    killed = 0
    for path, text, tests in chosen:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        finder = Finder(name, path, text)
        if all(survives(finder, asked, allowed(asked, patience)) for asked in rounds(path, tests)):
            before, place = path.read_text("utf-8"), path.relative_to(ROOT).as_posix()
            print(
                *difflib.unified_diff(before.splitlines(), text.splitlines(), place, place, n=0, lineterm=""), sep="\n"
            )
        else:
            killed += 1
    share = killed / max(1, len(chosen))
    print(f"{killed} of {len(chosen)} mutants killed, {100 * share:.1f} % ({len(every)} in {', '.join(args.targets)})")
    sys.exit(int(share < args.least))


if __name__ == "__main__":
    main()

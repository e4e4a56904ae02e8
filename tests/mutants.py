"""Which changes of the code no test notices: ``python tests/mutants.py metrics/roc`` (needs cosmic-ray, and fork).

Mutants are cosmic-ray's: one operator, number, comparison, keyword replaced at a time. Those that change annotations
only, or nothing that is run, are left out. What runs them is here: cosmic-ray starts a process for each, which imports
torch for seconds, and runs every test; here a process that has torch and the tests is forked, the child has the mutant
in place and runs, until one fails, the tests that run the changed line: a first run notes which these are. Files are
not changed. What no test runs has survived, and so has what tests of five seconds, the shortest first, do not notice;
what makes them hang is noticed.

``--most 500`` takes so many of all places that can be changed, drawn with a seed, and says in which interval the share
of all lies, with 95 %. Prints the survivors as differences, then the share killed by file, and of all; exits with 1
where that is below ``--least``.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import math
import os
import random
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
# The packages that are held to a share, and the tests that have to notice.
TESTS = {
    "functional": ("tests/functional", "tests/base/test_devices.py"),
    "metrics": ("tests/metrics",),
    "trust": ("tests/trust",),
    "ensembles/fusion": ("tests/ensembles/test_fusion.py", "tests/ensembles/test_random.py"),
}
NORMAL = 1.96  # of a normal distribution, 95 % within


def files(target: str) -> tuple[list[Path], str]:
    """Return the files of a target, and the package that it belongs to."""
    package = next((name for name in TESTS if target == name or target.startswith(f"{name}/")), None)
    if package is None:
        raise SystemExit(f"'{target}' is none of {', '.join(TESTS)}, nor a module of one")
    place = ROOT / "robustkit" / target
    found = sorted(place.glob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    return [path for path in found if path.name != "__init__.py" or target in TESTS], package


def warm() -> None:
    """Import what takes long and is not mutated."""
    os.environ.update(OMP_NUM_THREADS="1", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", COVERAGE_CORE="ctrace")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])  # of what tests start
    for name in ("numpy", "scipy.stats", "sklearn.datasets", "torch", "pytest", "torchvision", "filelock", "coverage"):
        importlib.import_module(name)
    sys.modules["torch"].set_num_threads(1)
    sys.path.insert(0, str(ROOT))
    os.chdir(ROOT)


def interval(killed: int, drawn: int) -> tuple[float, float]:
    """Return Wilson's interval, 95 %, of the share that a sample comes from."""
    share = killed / drawn
    middle = (share + NORMAL**2 / (2 * drawn)) / (1 + NORMAL**2 / drawn)
    half = NORMAL / (1 + NORMAL**2 / drawn) * math.sqrt(share * (1 - share) / drawn + NORMAL**2 / (4 * drawn**2))
    return middle - half, middle + half


def difference(path: Path, text: str) -> str:
    """Return what is changed."""
    name = path.relative_to(ROOT).as_posix()
    lines = difflib.unified_diff(path.read_text("utf-8").splitlines(), text.splitlines(), name, name, n=0, lineterm="")
    return "\n".join(lines)


def main() -> None:
    """Mutate, test, and say what survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", default=list(TESTS), help="packages, or modules like metrics/roc")
    parser.add_argument("--most", type=int, help="only so many of all, drawn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--least", type=float, default=0.85, help="share that has to be killed")
    args = parser.parse_args()
    warm()
    from mutant_runs import judge
    from mutating import places

    every = [
        (package, place) for found, package in map(files, args.targets) for path in found for place in places(path)
    ]
    random.Random(args.seed).shuffle(every)
    drawn = [(package, made) for package, place in every[: args.most] if (made := place.mutant())]
    drawn.sort(key=lambda one: (one[0], str(one[1].path), one[1].lines[0]))
    total: Counter[str] = Counter()
    killed: Counter[str] = Counter()
    started = time.monotonic()
    for package in dict.fromkeys(package for package, _ in drawn):
        of_it = [mutant for name, mutant in drawn if name == package]
        for mutant, survives, tests in judge(package, TESTS[package], of_it):
            name = mutant.path.relative_to(ROOT / "robustkit").as_posix()
            total[name] += 1
            killed[name] += not survives
            if survives:
                print(f"{tests} tests: {difference(mutant.path, mutant.text)}", flush=True)
    for name, number in sorted(total.items()):
        print(f"{killed[name]:5d} of {number:5d}  {name}")
    share = killed.total() / max(1, total.total())
    low, high = (share, share) if args.most is None else interval(killed.total(), max(1, total.total()))
    print(
        f"{killed.total()} of {total.total()} mutants killed, {100 * share:.1f} % (of all in {', '.join(args.targets)}"
        f" {100 * low:.1f} to {100 * high:.1f} %), {time.monotonic() - started:.0f} s"
    )
    sys.exit(int(share < args.least))


if __name__ == "__main__":
    main()

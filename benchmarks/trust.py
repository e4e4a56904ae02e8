"""What the trust checks cost beside the attacks whose numbers they judge.

python benchmarks/trust.py                                                       # digits, baseline and ADP, pgd and mim
python benchmarks/trust.py --dataset mnist --data-dir D --arch lenet --epochs 5 --n 500 --json out.json
"""

from __future__ import annotations

import argparse
import datetime
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from robustkit import api
from robustkit.base.errors import UserError
from robustkit.base.files import write_json
from robustkit.base.progress import Reporter
from robustkit.records.cells import Facts
from robustkit.records.store import Store

LEVELS = ("quick", "full")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; 0: done, 2: bad usage."""
    args = _parser().parse_args(argv)
    try:
        result = run(args, Console(highlight=False))
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    Console().print(table(result))
    if args.json:
        write_json(args.json, result)
    return 0


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Time the evaluation without checks, then the same with each level: the attacks are in the store by then.

    What an evaluation takes that has nothing left to do (loading, scoring, the report) is timed and taken off.
    """
    asked = {
        "defense": args.defense, "dataset": args.dataset, "data_dir": args.data_dir, "attacks": args.attacks,
        "arch": args.arch, "epochs": args.epochs, "n": args.n, "eps": args.eps, "suites": "attacks",
        "reference": args.reference, "workers": args.workers, "formats": (), "keep_examples": False,
        "reporter": Reporter(console),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        _timed(asked | {"n": 1, "out": f"{folder}/trained", "trust": "off"})  # trains, or takes from the cache
        first = _timed(asked | {"out": f"{folder}/out", "trust": "off"})
        nothing = _timed(asked | {"out": f"{folder}/out", "trust": "off"})
        if first <= nothing:
            raise UserError(
                f"the attacks took {first:.2f} s, no longer than the {nothing:.2f} s of a run that finds them done: "
                "there is nothing to compare the checks with; ask for more images (--n) or stronger attacks"
            )
        rows: dict[str, dict[str, Any]] = {}
        for level in LEVELS:
            known = _samples(folder)
            seconds = _timed(asked | {"out": f"{folder}/out", "trust": level}) - nothing
            samples = sorted(_samples(folder) - known) or sorted(known)  # or as many as at the level before
            rows[level] = {"seconds": seconds, "share": seconds / (first - nothing), "samples": samples}
    return {
        "date": datetime.date.today().isoformat(), "torch": torch.__version__, "threads": torch.get_num_threads(),
        "asked": {name: value for name, value in asked.items() if isinstance(value, str | int | bool)},
        "attack_seconds": first - nothing, "idle_seconds": nothing, "levels": rows,
    }  # fmt: skip


def table(result: dict[str, Any]) -> Table:
    """Return the measured seconds as a table."""
    rows = Table(title=f"Attacks on {result['asked']['dataset']}: {result['attack_seconds']:.1f} s")
    for column in ("level", "seconds", "share of the attacks", "samples probed"):
        rows.add_column(column, justify="right")
    for level, row in result["levels"].items():
        samples = ", ".join(map(str, row["samples"]))
        rows.add_row(level, f"{row['seconds']:.1f}", f"{100 * row['share']:.0f} %", samples)
    return rows


def _timed(asked: dict[str, Any]) -> float:
    started = time.perf_counter()
    api.evaluate(**asked)
    return time.perf_counter() - started


def _samples(folder: str) -> set[int]:
    """Return on how many samples the probes looked, for each ensemble and level that was run."""
    store = Store(Path(folder) / "out" / "runs")
    cells = [cell for cell in store.cells() if cell.kind == "probe" and cell.name == "gradient"]
    found = [facts for cell in cells if isinstance(facts := store.load_facts(cell), Facts)]
    return {len(facts.arrays["rows"]) for facts in found}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--defense", default="adp")
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data-dir")
    parser.add_argument("--attacks", default="pgd,mim")
    parser.add_argument("--arch")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--n", type=int)
    parser.add_argument("--eps")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--no-reference", dest="reference", action="store_false")
    parser.add_argument("--json", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""How a plan spreads over workers: scheduled by one driver onto simulated ones, at which pace, in how much memory.

python benchmarks/executors.py                                     # 10,000 stub cells on 2, 16 and 128 workers
python benchmarks/executors.py --cells 1000 --workers 4,8 --json out.json
python benchmarks/executors.py --store /dev/shm                    # records where nobody waits for a disk

Each number of workers is a process of its own, so that its memory is its own. Exit code 1: a target is missed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from robustkit.base.files import write_json

CELLS, WORKERS = 10_000, "2,16,128"
OVER, PER_SECOND, MIB = 0.10, 300.0, 500.0  # targets: above the ideal makespan at most, cells a second, memory


def main(argv: Sequence[str] | None = None) -> int:
    """Simulate; 0: every target is met, 1: one is not, 2: bad usage."""
    args = _parser().parse_args(argv)
    if args.cells < 1 or not all(part.isdecimal() and int(part) for part in args.workers.split(",")):
        print(f"error: {args.cells} cells on '{args.workers}' workers; give numbers from 1.", file=sys.stderr)
        return 2
    if args.one:
        from _simulation import simulate

        with tempfile.TemporaryDirectory(dir=args.store) as folder:
            print(json.dumps(simulate(args.cells, int(args.workers), Path(folder), args.seed)))
        return 0
    rows = [alone(args.cells, int(count), args.store, args.seed) for count in args.workers.split(",")]
    Console(width=max(100, Console().width)).print(table(rows))
    missed = [what for row in rows for what in _missed(row)]
    for what in missed:
        print(f"missed: {what}")
    if args.json:
        write_json(args.json, {"made": datetime.date.today().isoformat(), "cores": os.cpu_count(), "rows": rows})
    return int(bool(missed))


def alone(cells: int, workers: int, store: Path | None, seed: int) -> dict[str, Any]:
    """Simulate in a process of its own."""
    command = [sys.executable, __file__, "--one", "--cells", str(cells), "--workers", str(workers), "--seed", str(seed)]
    if store:
        command += ["--store", str(store)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _missed(row: dict[str, Any]) -> list[str]:
    at = f"on {row['workers']} workers"
    return [
        *([f"{row['over_ideal']:.1%} over the ideal makespan {at}"] if row["over_ideal"] > OVER else []),
        *([f"{row['per_second']:.0f} cells a second {at}"] if row["per_second"] < PER_SECOND else []),
        *([f"{row['own_mib']:.0f} MiB of its own {at}"] if row["own_mib"] > MIB else []),
    ]


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return a row for each number of workers."""
    found = Table(title=f"{rows[0]['cells']:,} cells in {rows[0]['chains']:,} chains", title_justify="left")
    for name in (
        "workers", "makespan h", "over ideal", "busy", "driver s", "CPU s", "cells/s", "own MiB", "above imports MiB",
        "resident MiB",
    ):  # fmt: skip
        found.add_column(name, justify="right")
    for row in rows:
        found.add_row(
            str(row["workers"]), f"{row['makespan'] / 3600:.2f}", f"{row['over_ideal']:.2%}", f"{row['busy']:.1%}",
            f"{row['driver_seconds']:.1f}", f"{row['driver_cpu_seconds']:.1f}", f"{row['per_second']:.0f}",
            f"{row['own_mib']:.0f}", f"{row['grown_mib']:.0f}", f"{row['rss_mib']:.0f}",
        )  # fmt: skip
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=CELLS, help="of the plan, at least")
    parser.add_argument("--workers", default=WORKERS, help="numbers of simulated workers")
    parser.add_argument("--seed", type=int, default=0, help="of the lengths")
    parser.add_argument("--store", type=Path, help="a folder that the records are written below, and removed from")
    parser.add_argument("--json", type=Path, help="a file for the numbers")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())

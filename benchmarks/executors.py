"""How a plan spreads over workers: onto simulated ones at which pace and in how much memory, onto real nodes how fast.

python benchmarks/executors.py                                     # all of it: about twelve minutes on two idle cores
python benchmarks/executors.py --only simulated --cells 1000 --workers 4,8 --json out.json
python benchmarks/executors.py --only nodes --turns 1              # one node of Ray and two, of one CPU each
python benchmarks/executors.py --store /dev/shm                    # records where nobody waits for a disk

Each measurement is a process of its own, so that its memory is its own. Exit code 1: a target is missed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from robustkit.base.files import write_json

CELLS, WORKERS, TURNS = 10_000, "2,16,128", 2
IMAGES, STEPS = 64, 20  # of each cell on real nodes: so many that two cores do not wait for one memory
OVER, PER_SECOND, MIB = 0.10, 300.0, 500e6 / 2**20  # targets: above the ideal makespan, cells a second, memory
FASTER, OVERHEAD, IDLE = 1.8, 0.06, 1.0  # two nodes against one; seconds beside a piece's work; an idle machine
TWICE = 1.4  # copies of the weights at one of two nodes, on average, where one of them was sent them once more: 1.5


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; 0: every target is met, 1: one is not, 2: bad usage."""
    args = _parser().parse_args(argv)
    numbers = args.workers.split(",")
    if min(args.cells, args.turns) < 1 or not all(part.isdecimal() and int(part) for part in numbers):
        print(f"error: {args.cells} cells on '{args.workers}' workers in {args.turns} turns; give numbers from 1.",
              file=sys.stderr)  # fmt: skip
        return 2
    if args.one:
        return _one(args)
    console = Console(width=max(110, Console().width))
    load, found, missed = os.getloadavg()[0], dict[str, Any](), list[str]()
    if args.only != "nodes":
        common = ["--cells", str(args.cells), "--seed", str(args.seed)]
        place = ["--store", str(args.store)] if args.store else []
        found["simulated"] = [alone("simulated", "--workers", count, *common, *place) for count in numbers]
        console.print(simulated_table(found["simulated"]))
        missed += [what for row in found["simulated"] for what in _missed(row)]
    if args.only != "simulated":
        found["nodes"] = [row for _ in range(args.turns) for row in _turn()]
        console.print(nodes_table(found["nodes"]))
        said, short = gained(found["nodes"])
        print(said)
        missed += short
    if load > IDLE:
        print(f"a load of {load:.1f} was on this machine before: figures of seconds are not those of an idle one")
    for what in missed:
        print(f"missed: {what}")
    if args.json:
        made = {"made": datetime.date.today().isoformat(), "cores": os.cpu_count(), "load_before": load}
        write_json(args.json, {**made, **found})
    return int(bool(missed))


def _one(args: argparse.Namespace) -> int:
    """Measure once in this process, and print JSON."""
    with tempfile.TemporaryDirectory(dir=args.store) as folder:
        if args.one == "nodes":
            from _nodes import measure

            row = measure(args.nodes, IMAGES, STEPS, Path(folder), *args.part)
        else:
            from _simulation import simulate

            row = simulate(args.cells, int(args.workers), Path(folder), args.seed)
    print(json.dumps(row))
    return 0


def _turn() -> list[dict[str, Any]]:
    """Run the plan in one thread, in two processes with half the chains each (the machine's own limit), and on Ray."""
    return [{**alone("nodes"), "processes": 1}, together(2), *(alone("nodes", "--nodes", str(n)) for n in (1, 2))]


def together(processes: int) -> dict[str, Any]:
    """Run the plan without Ray in so many processes at once, each with its part of the chains."""
    with ThreadPoolExecutor(processes) as pool:
        parts = [pool.submit(alone, "nodes", "--part", str(part), str(processes)) for part in range(processes)]
        rows = [part.result() for part in parts]
    seconds = max(row["ended"] for row in rows) - min(row["began"] for row in rows)
    return {**rows[0], "processes": processes, "seconds": seconds, "chains": sum(row["chains"] for row in rows)}


def alone(one: str, *words: str) -> dict[str, Any]:
    """Measure in a process of its own."""
    done = subprocess.run([sys.executable, __file__, "--one", one, *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{one} {' '.join(words)} failed:\n{done.stderr[-2000:]}")
    rows = [line for line in done.stdout.splitlines() if line.startswith("{")]
    found: dict[str, Any] = json.loads(rows[-1])
    return found


def _missed(row: dict[str, Any]) -> list[str]:
    at = f"on {row['workers']} workers"
    return [
        *([f"{row['over_ideal']:.1%} over the ideal makespan {at}"] if row["over_ideal"] > OVER else []),
        *([f"{row['per_second']:.0f} cells a second {at}"] if row["per_second"] < PER_SECOND else []),
        *([f"{row['memory']['uss']:.0f} MiB of its own {at}"] if row["memory"]["uss"] > MIB else []),
    ]


def gained(rows: Sequence[dict[str, Any]]) -> tuple[str, list[str]]:
    """Return a sentence on what the second node gave, by medians of the turns, and what is less than was aimed at."""
    faster = _times([row["seconds"] for row in rows if row["nodes"] == nodes] for nodes in (1, 2))
    machine = _times([row["seconds"] for row in rows if row.get("processes") == count] for count in (1, 2))
    beside = max(median(row["overhead"] for row in rows if row["nodes"] == nodes) for nodes in (1, 2))
    copies = max((_copies(row) for row in rows if row["nodes"]), default=0.0)
    said = (
        f"two nodes are {faster:.2f} times as fast as one, two processes without Ray {machine:.2f}; "
        f"{1000 * beside:.0f} ms beside the work of a piece; the weights arrived {copies:.2f} times at a node"
    )
    return said, [
        *([f"two nodes are {faster:.2f} times as fast as one ({machine:.2f} without Ray)"] if faster < FASTER else []),
        *([f"{1000 * beside:.0f} ms beside the work of a piece"] if beside > OVERHEAD else []),
        *([f"the weights arrived {copies:.2f} times at a node"] if copies > TWICE else []),
    ]


def _times(seconds: Iterable[Sequence[float]]) -> float:
    """Return how many times as fast the second of two ways is, by the median of the turns."""
    return median(one / two for one, two in zip(*seconds, strict=True))


def _copies(row: dict[str, Any]) -> float:
    """Return how often the weights can have arrived at a node, on average, beside all else that did."""
    rest = row["sent"] - row["weights"] + row["returned"]
    return float(sum(row["arrived"]) - rest) / row["weights"] / row["nodes"]


def simulated_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return a row for each number of workers."""
    found = _table(
        f"{rows[0]['cells']:,} stub cells in {rows[0]['chains']:,} chains, simulated workers",
        "workers", "makespan h", "over ideal", "busy", "driver s", "CPU s", "cells/s", "own MiB", "grown", "shared out",
        "resident", "load",
    )  # fmt: skip
    for row in rows:
        memory = row["memory"]
        found.add_row(
            str(row["workers"]), f"{row['makespan'] / 3600:.2f}", f"{row['over_ideal']:.2%}", f"{row['busy']:.1%}",
            f"{row['driver_seconds']:.1f}", f"{row['driver_cpu_seconds']:.1f}", f"{row['per_second']:.0f}",
            f"{memory['uss']:.0f}", f"{row['grown']:.0f}", f"{memory['pss']:.0f}", f"{memory['peak']:.0f}",
            f"{row['load']:.1f}",
        )  # fmt: skip
    return found


def nodes_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return a row for each run on real nodes, in turns."""
    found = _table(
        f"{rows[0]['cells']} cells in {rows[0]['chains']} chains, Ray's nodes of one CPU each (no Ray: processes)",
        "nodes", "s", "work s", "idle s", "ms beside", "ms empty", "start s", "weights MiB", "sent", "arrived",
        "own MiB", "shared out", "resident", "load",
    )  # fmt: skip
    for row in rows:
        memory = row["memory"]
        found.add_row(
            str(row["nodes"] or f"no Ray, {row['processes']}"), f"{row['seconds']:.1f}", f"{row['work']:.1f}",
            f"{row['idle']:.1f}", f"{1000 * row['overhead']:.0f}", f"{1000 * row['empty']:.0f}",
            f"{row['start_seconds']:.1f}", _mib(row["weights"]), _mib(row["sent"]),
            " ".join(map(_mib, row["arrived"])), f"{memory['uss']:.0f}", f"{memory['pss']:.0f}",
            f"{memory['peak']:.0f}", f"{row['load']:.1f}",
        )  # fmt: skip
    return found


def _table(title: str, *columns: str) -> Table:
    found = Table(title=title, title_justify="left")
    for name in columns:
        found.add_column(name, justify="right")
    return found


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("simulated", "nodes"), help="one of the two measurements")
    parser.add_argument("--cells", type=int, default=CELLS, help="of the simulated plan, at least")
    parser.add_argument("--workers", default=WORKERS, help="numbers of simulated workers")
    parser.add_argument(
        "--turns", type=int, default=TURNS, help="how often one and two are measured, without Ray and with"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the simulated lengths")
    parser.add_argument("--store", type=Path, help="a folder that the records are written below, and removed from")
    parser.add_argument("--json", type=Path, help="a file for the numbers")
    parser.add_argument("--one", choices=("simulated", "nodes"), help=argparse.SUPPRESS)
    parser.add_argument("--nodes", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())

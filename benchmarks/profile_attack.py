"""Where an attack's time goes, as the model is and on the fast path: seconds by kind of operation.

python benchmarks/profile_attack.py --checkpoint DIR --data FILE.npz --n 64 --attack pgd --steps 50 --eps 8/255
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import _ours
import _subject
import torch
from _workloads import WORKLOADS
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from robustkit.base.errors import UserError, unknown
from robustkit.base.options import number

KINDS = {
    "convolution": ("conv",),
    "batch norm": ("batch_norm",),
    "activations": ("relu", "threshold"),
    "matrix products": ("addmm", "matmul", "::mm"),
    "precision and layout": ("_to_copy", "copy_", "contiguous"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Profile and print a table; 0: done, 2: bad usage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--public", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--n", type=int, default=64)
    parser.add_argument("--attack", default="pgd-50", help="a row of the benchmark")
    parser.add_argument("--eps", default=None, help="another budget, like 8/255")
    parser.add_argument("--speeds", default="off,auto")
    args = parser.parse_args(argv)
    try:
        print_table(args)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def print_table(args: argparse.Namespace) -> None:
    """Run the attack once for each speed, on one thread, and print the seconds of each kind of operation."""
    rows = {workload.name: workload for workload in WORKLOADS}
    if args.attack not in rows:
        raise unknown("workload", args.attack, rows)
    workload = rows[args.attack]
    if args.eps is not None:
        workload = replace(workload, eps=number(args.eps, "eps"))
    torch.set_num_threads(1)  # several threads' operations would be counted beside each other
    subject, _ = _subject.load(args.checkpoint, args.public, args.data, args.n, "cpu", max(args.n, 1))
    subject = replace(subject, run_options=replace(subject.run_options, workers=1))
    columns = {}
    for speed in args.speeds.split(","):
        crafting = _ours.prepare(subject, speed)
        _ours.craft(crafting, subject, workload.warm_up(subject.features))
        columns[f"{speed}: {crafting.note}"] = seconds(lambda c=crafting: _ours.craft(c, subject, workload))
    table = Table(title=f"{workload.title}, {len(subject.split)} images, one thread: seconds")
    table.add_column("operation")
    for name in columns:
        table.add_column(name, justify="right")
    for kind in [*KINDS, "everything else", "together"]:
        table.add_row(kind, *(f"{column[kind]:.2f}" for column in columns.values()))
    Console(highlight=False, width=160).print(table)


def seconds(run: Callable[[], object]) -> dict[str, float]:
    """Return the seconds that the operations of a call spend in themselves, by kind."""
    with profile(activities=[ProfilerActivity.CPU]) as watched:
        run()
    found = dict.fromkeys([*KINDS, "everything else"], 0.0)
    for event in watched.key_averages():
        kind = next((k for k, parts in KINDS.items() if any(p in event.key for p in parts)), "everything else")
        found[kind] += event.self_cpu_time_total / 1e6
    return {**found, "together": sum(found.values())}


if __name__ == "__main__":
    sys.exit(main())

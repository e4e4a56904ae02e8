"""How long all subsets of a pool of members take, once their logits are stored.

python benchmarks/pool.py                                             # 14 members, 364 subsets of 3
python benchmarks/pool.py --members 20 --size 4 --n 5000 --json out.json
"""

from __future__ import annotations

import argparse
import datetime
import os
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from robustkit.base.files import write_json
from robustkit.metrics import subsets
from robustkit.suites.pools import MOST

SHAPES = ((10_000, 10), (1_000, 1_000))  # samples, classes


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; 0: done, 2: bad usage."""
    args = _parser().parse_args(argv)
    if not 2 <= args.size <= args.members or (args.n or 1) < 1:
        print(f"error: subsets of {args.size} of {args.members} members; give 2 <= size <= members.", file=sys.stderr)
        return 2
    shapes = [(args.n or n, classes) for n, classes in SHAPES if args.classes in (None, classes)]
    rows = [measure(args.members, n, classes, args.size) for n, classes in shapes or [(args.n or 1000, args.classes)]]
    Console().print(table(rows))
    if args.json:
        write_json(args.json, {"made": datetime.date.today().isoformat(), "cores": os.cpu_count(), "rows": rows})
    return 0


def measure(members: int, n: int, classes: int, size: int) -> dict[str, Any]:
    """Score all subsets of made-up members that are right more often than not."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, classes, n)
    logits = rng.normal(size=(members, n, classes)).astype(np.float32)
    logits[:, np.arange(n), y] += 2.5
    chosen = subsets.choose(members, size, MOST)
    started, cpu = time.perf_counter(), time.process_time()
    scored = subsets.score(logits, y, chosen)
    for rule in subsets.RULES:
        for values in scored.measures.values():
            subsets.correlations(scored.gain(rule), values)
    return {
        "members": members, "n": n, "classes": classes, "size": size, "subsets": len(chosen),
        "seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> Table:
    """Return a row for each shape."""
    shown = Table(title="All subsets of a pool: accuracies of five fusion rules, eleven measures, correlations")
    for heading in ("members", "samples", "classes", "subsets", "seconds", "CPU seconds", "peak MiB of the process"):
        shown.add_column(heading, justify="right")
    for row in rows:
        numbers = [f"{row['seconds']:.1f}", f"{row['cpu_seconds']:.1f}", f"{row['peak_mib']:.0f}"]
        shown.add_row(*(str(row[key]) for key in ("members", "n", "classes", "subsets")), *numbers)
    return shown


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=14)
    parser.add_argument("--size", type=int, default=3)
    parser.add_argument("--n", type=int)
    parser.add_argument("--classes", type=int)
    parser.add_argument("--json", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())

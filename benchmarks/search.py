"""How long a step of an architecture search takes, beside one that computes every operation of every edge by itself.

python benchmarks/search.py                                           # 8x8, 28x28 and 32x32 pixels, batch 64
python benchmarks/search.py --sides 32 --channels 3 --rounds 9 --json out.json

A step is what robustkit.search does for a batch of each half of the training data: forward, backward and Adam for the
architecture, then for the weights. Ways take turns, and a ratio is the median over rounds, so that what else a machine
does hits all alike. CPU seconds are those of the process.
"""

from __future__ import annotations

import argparse
import datetime
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import _plain_cell
import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn import functional

from robustkit.base.devices import find_device
from robustkit.base.errors import UserError
from robustkit.base.files import write_json
from robustkit.search._relaxed import RelaxedNetwork
from robustkit.search._space import Space

CLASSES, WIDTH, PARTIAL, BATCH = 10, 16, 4, 64  # those of `robustkit search`
WARM = 2  # steps that do not count
WAYS = {  # one of how many channels goes through the operations; whether operations are computed one by one
    "plain, all channels": (1, True), "plain": (PARTIAL, True), "ours, all channels": (1, False),
    "ours": (PARTIAL, False),
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; 0: done, 2: bad usage."""
    args = _parser().parse_args(argv)
    try:
        sides = [int(side) for side in args.sides.split(",")]
        for side in sides:
            Space(args.nodes).check((args.channels, side, side))
        device = find_device(args.device)
    except (UserError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rows = [row for side in sides for row in measure(side, args, device)]
    Console().print(table(rows))
    if args.json:
        made = datetime.date.today().isoformat()
        write_json(args.json, {
            "made": made, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "torch": torch.__version__,
            "device": str(device), "batch": args.batch, "nodes": args.nodes, "rounds": args.rounds, "rows": rows,
        })  # fmt: skip
    return 0


def measure(side: int, args: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """Return for each way the seconds of a step, and how much faster than a plain one it is."""
    steps = {name: step(side, args, device, *how) for name, how in WAYS.items()}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    for turn in range(-WARM, args.rounds):
        for name, do in steps.items():
            started, cpu = time.perf_counter(), time.process_time()
            do()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn >= 0:
                seconds[name].append((time.perf_counter() - started, time.process_time() - cpu))
    rows = []
    for name, taken in seconds.items():
        row: dict[str, Any] = {"side": side, "channels": args.channels, "way": name}
        for at, unit in enumerate(("wall", "cpu")):
            row[unit] = statistics.median(one[at] for one in taken)
            for against in ("plain, all channels", "plain"):
                ratios = [other[at] / one[at] for one, other in zip(taken, seconds[against], strict=True)]
                row[f"{unit}_against_{against.replace(', ', '_').replace(' ', '_')}"] = statistics.median(ratios)
        rows.append(row)
    return rows


def step(
    side: int, args: argparse.Namespace, device: torch.device, partial: int, one_by_one: bool
) -> Callable[[], None]:
    """Return a function that does one step of a search: the architecture's, then the weights'."""
    torch.manual_seed(0)
    space = Space(args.nodes)
    network = RelaxedNetwork(space, args.channels, CLASSES, WIDTH, partial)
    if one_by_one:
        network.network.cells[0] = _plain_cell.like(network.network.cells[0])
    network.to(device).to(memory_format=torch.channels_last).train()
    vector = nn.Parameter(1e-3 * torch.randn(space.size, device=device))
    x = torch.rand(args.batch, args.channels, side, side, device=device).contiguous(memory_format=torch.channels_last)
    y = torch.randint(CLASSES, (args.batch,), device=device)
    moved = ([vector], list(network.parameters()))
    optimisers = [torch.optim.Adam(parameters, 0.02, betas=(0.5, 0.9)) for parameters in moved]

    def do() -> None:
        for parameters, optimiser in zip(moved, optimisers, strict=True):
            mixture = space.softmax(vector)
            loss = functional.cross_entropy(network(x, mixture if parameters is moved[0] else mixture.detach()), y)
            for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                parameter.grad = gradient
            optimiser.step()

    return do


def table(rows: list[dict[str, Any]]) -> Table:
    """Return a row for each way and size."""
    shown = Table(title="A step of a search: seconds, and how many times as fast as plain ways (CPU time in brackets)")
    for heading in ("pixels", "way", "ms", "than plain, all channels", "than plain"):
        shown.add_column(heading, justify="left" if heading == "way" else "right")
    for row in rows:
        ratios = [f"{row[f'wall_{at}']:.2f} ({row[f'cpu_{at}']:.2f})" for at in
                  ("against_plain_all_channels", "against_plain")]  # fmt: skip
        took = f"{1000 * row['wall']:.0f} ({1000 * row['cpu']:.0f})"
        shown.add_row(f"{row['channels']}x{row['side']}x{row['side']}", row["way"], took, *ratios)
    return shown


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", default="8,28,32", help="pixels of a side, a list")
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--nodes", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())

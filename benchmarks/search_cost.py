"""What a search with a hypernetwork costs beside repeated searches, and how accurate both ensembles are, side by side.

python benchmarks/search_cost.py --out found                                  # digits, three seeds
python benchmarks/search_cost.py --dataset mnist --data-dir D --images 6000 --seeds 0 --out found-mnist

Each search has a folder of its own below --out: killed, the same command goes on. Passes are samples times forward or
backward passes of the network; training from scratch is counted by itself. Seconds are those of the clock, which other
work on the machine makes longer, and of the processor, which it hardly does; the latter only of what this process ran.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from robustkit import api, data
from robustkit.base.errors import UserError
from robustkit.base.files import write_json
from robustkit.base.progress import Reporter
from robustkit.functional.stats import wilson
from robustkit.search._alternate import Alternation

METHODS = ("edgenes", "darts-ensemble")
AFTERWARDS = ("training", "choice")  # phases that are not the search
SHARES = ("seconds_share", "processor_share", "passes_share")
MOST = 0.6  # of the cost of repeated searches (issue 21)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; 0: done, 2: bad usage."""
    args = _parser().parse_args(argv)
    try:
        result = run(args, Console(highlight=False))
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    Console(width=120).print(table(result))
    write_json(args.out / "search_cost.json", result)
    return 0


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Search with either method for each seed, and set what they cost and gave beside each other."""
    dataset = _dataset(args)
    rows = []
    for seed in (int(text) for text in args.seeds.split(",")):
        found = {}
        for name in METHODS:
            with stopwatch() as epochs:
                record = api.search(
                    name, dataset=dataset, data_dir=args.data_dir, members=args.members, epochs=args.epochs,
                    search_epochs=args.search_epochs, settings=_settings(args, name), seed=seed, workers=1,
                    out=args.out / f"{name}-{seed}", reporter=Reporter(console),
                )  # fmt: skip
            found[name] = summary(record, epochs)
        n = len(data.load(dataset, data_dir=args.data_dir).split("test"))
        rows.append(compared(seed, found, n))
    return {
        "date": datetime.date.today().isoformat(), "torch": torch.__version__, "threads": torch.get_num_threads(),
        "cores": os.cpu_count(), "dataset": args.dataset, "images": args.images, "members": args.members,
        "search_epochs": args.search_epochs, "epochs": args.epochs, "most": MOST, "rows": rows,
        **{f"mean_{name}": _mean([row[name] for row in rows]) for name in SHARES},
    }  # fmt: skip


@contextmanager
def stopwatch() -> Iterator[list[float]]:
    """Note the processor's seconds of each epoch of search in the block."""
    seconds: list[float] = []
    epoch: Callable[..., None] = Alternation.epoch

    def timed(*given: Any) -> None:
        started = time.process_time()
        epoch(*given)
        seconds.append(time.process_time() - started)

    Alternation.epoch = timed  # type: ignore[method-assign]
    try:
        yield seconds
    finally:
        Alternation.epoch = epoch  # type: ignore[method-assign]


def summary(record: dict[str, Any], epochs: list[float]) -> dict[str, Any]:
    """Return what a search cost, and its ensemble's accuracy, from ``search.json`` and the epochs' seconds."""
    costs = record["costs"]
    whole = sum(len(rows) for rows in record["history"].values()) == len(epochs)
    searching = [cost for name, cost in costs.items() if name not in AFTERWARDS]
    return {
        "seconds": sum(cost["seconds"] for cost in searching),
        "processor_seconds": sum(epochs) if whole else None,
        "passes": sum(cost["forward"] + cost["backward"] for cost in searching),
        "training_seconds": costs["training"]["seconds"], "candidates": len(record["candidates"]),
        "accuracy": record["metrics"]["test_accuracy"], "member_accuracy": record["metrics"]["test_member_accuracy"],
        "shared_edges": record["candidates"][0]["facts"].get("sampled_shared_edges"), "costs": costs,
    }  # fmt: skip


def compared(seed: int, found: dict[str, dict[str, Any]], n: int) -> dict[str, Any]:
    """Return the shares of cost, and whether the first method's accuracy is above the second's lower bound."""
    ours, repeated = (found[name] for name in METHODS)
    low, high = wilson(round(repeated["accuracy"] * n), n)
    cpu = [one["processor_seconds"] for one in (ours, repeated)]
    return {
        "seed": seed, "seconds_share": ours["seconds"] / repeated["seconds"],
        "processor_share": None if None in cpu else cpu[0] / cpu[1],
        "passes_share": ours["passes"] / repeated["passes"], "accuracy": ours["accuracy"],
        "repeated_accuracy": repeated["accuracy"], "repeated_ci95": [low, high],
        "within_interval": ours["accuracy"] >= low, **found,
    }  # fmt: skip


def _mean(values: list[float | None]) -> float | None:
    """Return the mean, or None where a value is missing."""
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if len(there) == len(values) else None


def table(result: dict[str, Any]) -> Table:
    """Return a row for each seed and method."""
    title = f"Searches for {result['members']} members on {result['dataset']}"
    shown = Table(title=title)
    for heading in (
        "seed", "method", "search s", "processor s", "passes", "share s", "processor", "passes", "training s",
        "accuracy",
    ):  # fmt: skip
        shown.add_column(heading, justify="right")
    for row in result["rows"]:
        low, high = row["repeated_ci95"]
        for name in METHODS:
            one, first = row[name], name == METHODS[0]
            shares = ["" if row[share] is None or not first else f"{row[share]:.3f}" for share in SHARES]
            cpu = one["processor_seconds"]
            accuracy = f"{one['accuracy']:.4f}" + ("" if first else f" [{low:.4f}, {high:.4f}]")
            shown.add_row(
                str(row["seed"]), name, f"{one['seconds']:.0f}", "" if cpu is None else f"{cpu:.0f}",
                f"{one['passes']:,}", *shares,
                f"{one['training_seconds']:.0f} ({one['candidates']})", accuracy,
            )  # fmt: skip
    return shown


def _settings(args: argparse.Namespace, name: str) -> list[str]:
    """Return those of ``--set`` that this method or the training takes."""
    return [text for text in args.set if text.partition(".")[0] in (name, "train")]


def _dataset(args: argparse.Namespace) -> str:
    """Return the dataset's name; of fewer images that of a file with the first of them and the whole test split."""
    if not args.images:
        return str(args.dataset)
    whole = data.load(args.dataset, data_dir=args.data_dir)
    arrays = {}
    for split, count in (("train", args.images), ("validation", max(200, args.images // 5)), ("test", None)):
        part = whole.split(split)
        part = part if count is None else part.take(count)
        name = "val" if split == "validation" else split
        arrays |= {f"x_{name}": part.x.numpy(), f"y_{name}": part.y.numpy()}
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "data.npz"
    np.savez(path, **arrays)
    return f"npz:{path}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--images", type=int, help="only the first so many training images")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--search-epochs", type=int, help="of each search; default: the methods'")
    parser.add_argument("--epochs", type=int, help="of each training from scratch; default: the dataset's")
    parser.add_argument("--set", action="append", default=[], help="METHOD.NAME=VALUE")
    parser.add_argument("--out", type=Path, required=True)
    return parser


if __name__ == "__main__":
    sys.exit(main())

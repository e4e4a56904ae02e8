"""Compare robustkit's attacks with those of other libraries: one process, one run, the same model and images.

python benchmarks/attacks.py --n 64 --json out.json          # everything that is installed, on digits
python benchmarks/attacks.py --render out.json --out docs    # table and figure, no attack is run
"""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import _measure
import _ours
import _peers
import _render
import _subject
import torch
from _ours import Crafting, Outcome
from _subject import Subject
from _workloads import WORKLOADS, Workload
from rich.console import Console

from robustkit.base.errors import UserError, unknown
from robustkit.base.files import write_json

SCHEMA = 1
FLOORS = 3  # passes of the floor after each implementation; the fastest of the row counts
Implementation = Callable[[Subject, Workload], Outcome]


def main(argv: Sequence[str] | None = None) -> int:
    """Run or render; 0: done, 2: bad usage."""
    args = _parser().parse_args(argv)
    args.argv = sys.argv[1:] if argv is None else list(argv)
    console = Console(highlight=False)
    try:
        if args.render:
            result = _render.merged([json.loads(path.read_text("utf-8")) for path in args.render])
            for path in _render.write(result, args.out):
                console.print(f"written: {path}", soft_wrap=True)
        else:
            result = run(args, console)
            console.print(_render.table(result))
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure every row with every implementation; the file is written after each row."""
    if args.threads:
        torch.set_num_threads(args.threads)
    asked = _chosen("peer", args.peers, list(_peers.RUNS))
    rows = _chosen("workload", args.only, [w.name for w in WORKLOADS])
    speeds = _chosen("speed", args.speeds, list(_ours.SPEEDS))
    peers = [peer for peer in asked if _peers.installed(peer)]
    batch_size = args.batch_size or max(args.n, 1)
    subject, facts = _subject.load(args.checkpoint, args.public, args.data, args.n, args.device, batch_size)
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": " ".join(["python", "benchmarks/attacks.py", *args.argv]),
        "quick": args.quick,
        "settings": {
            "batch_size": batch_size, "repeats": args.repeats, "n_jsma": args.n_jsma, "peer_timeout": args.peer_timeout,
        },
        "machine": _subject.machine(subject.run_options.device),
        "versions": _subject.versions(),
        "missing": [peer for peer in asked if peer not in peers],
        "subject": facts,
        "crafting": [],
        "workloads": [],
    }  # fmt: skip
    for peer in result["missing"]:
        console.print(f"{peer} is not installed, and left out")
    implementations: dict[str, Implementation] = {}
    for speed in speeds:
        crafting = _ours.prepare(subject, speed)
        name = "robustkit" if speed == speeds[0] else f"robustkit-{speed}"
        result["crafting"].append(
            {"implementation": name, "speed": speed, "seconds": crafting.seconds, "note": crafting.note}
        )
        implementations[name] = functools.partial(_own, crafting)
    for peer in peers:
        implementations[peer] = functools.partial(_peers.craft, peer)
    few = subject.take(min(args.n_jsma, len(subject.split)))
    for index, workload in enumerate(w for w in WORKLOADS if w.name in rows):
        chosen = workload.quick() if args.quick else workload
        on = few if workload.attack == "jsma" else subject
        result["workloads"].append(measure(chosen, on, implementations, index, args, console))
        write_json(args.json, result)
    return result


def measure(
    workload: Workload, subject: Subject, implementations: dict[str, Implementation], index: int,
    args: argparse.Namespace, console: Console,
) -> dict[str, Any]:  # fmt: skip
    """Measure one row: floor and implementations interleaved, in an order that moves on by one with every round."""
    gradient = workload.attack != "square"
    passes = workload.passes(subject.features)
    names = list(implementations)
    _measure.floor_pass(subject, gradient)  # warm up
    floors = [_measure.floor_pass(subject, gradient)]
    tries: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    orders = []
    for repeat in range(args.repeats):
        first = (index + repeat) % len(names)
        orders.append(names[first:] + names[:first])
        for name in orders[-1]:
            if all(t["error"] is None for t in tries[name]):
                tries[name].append(_attempt(name, implementations[name], subject, workload, args))
            floors += [_measure.floor_pass(subject, gradient) for _ in range(FLOORS)]
    floor = min(floors) * passes
    results = [_summary(name, workload, tries[name], floor) for name in names]
    for found in results:
        console.print(
            f"{workload.name:16} {found['implementation']:14} {_render.line(found, workload.norm)}", soft_wrap=True
        )
    return {
        "name": workload.name,
        "title": workload.title,
        "attack": workload.attack,
        "norm": workload.norm,
        "eps": workload.eps,
        "params": workload.params(),
        "minimum": workload.minimum,
        "transfer": workload.transfer,
        "images": len(subject.split),
        "orders": orders,
        "floor_passes": passes,
        "floor_pass_seconds": min(floors),
        "floor_pass_all_seconds": floors,
        "floor_seconds": floor,
        "results": results,
        "comparison": _measure.compare(results, len(subject.split), workload.minimum),
    }


def _attempt(
    name: str, implementation: Implementation, subject: Subject, workload: Workload, args: argparse.Namespace
) -> dict[str, Any]:
    """Warm up, craft and judge once; whatever a library raises is recorded and the run goes on."""
    limit = 0.0 if name.startswith("robustkit") else args.peer_timeout
    facts: dict[str, Any] = {"error": None, "seconds": None, "peak_memory_mib": None, "timed_out": False}
    device = subject.run_options.device
    try:
        with _measure.time_limit(limit):
            implementation(subject, workload.warm_up(subject.features))
        outcome, seconds, memory = _measure.timed(lambda: implementation(subject, workload), device, limit)
        return {
            **facts, "seconds": seconds, "peak_memory_mib": memory, **_measure.judge(outcome, subject, workload),
        }  # fmt: skip
    except _peers.NotOfferedError:
        return {**facts, "error": "not offered"}
    except _measure.TimeLimitError:
        return {**facts, "error": f"stopped after {limit:g} s", "timed_out": True}
    except Exception as error:  # noqa: BLE001 - a peer that crashes is a finding
        return {**facts, "error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}


def _summary(name: str, workload: Workload, tries: list[dict[str, Any]], floor: float) -> dict[str, Any]:
    """Return the fastest of several tries, with the seconds of all of them; one error is an error."""
    failed = [t for t in tries if t["error"] is not None]
    best = failed[0] if failed else min(tries, key=lambda t: t["seconds"])
    return {
        "implementation": name,
        "ours": name.startswith("robustkit"),
        "all_seconds": [t["seconds"] for t in tries],
        "ratio_to_floor": best["seconds"] / floor if best["seconds"] else None,
        "note": _peers.NOTES.get((name, workload.attack)),
        **best,
    }


def _own(crafting: Crafting, subject: Subject, workload: Workload) -> Outcome:
    return _ours.craft(crafting, subject, workload)


def _chosen(kind: str, text: str, known: list[str]) -> list[str]:
    """Return the names in a comma-separated text, all that are known where it is empty."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise unknown(kind, name, known)
    return list(dict.fromkeys(names)) or known


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is out of range; it must be at least 1")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--n", type=_count, default=64, help="first n images; those classified correctly are attacked (64)")
    add("--n-jsma", type=_count, default=8, help="of these, how many JSMA is run on (8)")
    add("--json", type=Path, default=Path("benchmark.json"), help="where the figures go, after every row")
    add("--checkpoint", type=Path, help="folder that `robustkit train` wrote; by default plain digits from the cache")
    add("--public", type=Path, help="a public CIFAR-10 ResNet-20 (.th), used where there is no --checkpoint")
    add("--data", type=Path, help="npz with x (N, H, W, C) and y; by default the digits test images")
    add("--only", default="", help="rows: " + ", ".join(w.name for w in WORKLOADS))
    add("--peers", default="", help="libraries: " + ", ".join(_peers.RUNS))
    add("--speeds", default=_ours.SPEEDS[0], help=f"robustkit's: {', '.join(_ours.SPEEDS)}; the first is compared")
    add("--threads", type=_count, help="torch threads")
    add("--repeats", type=_count, default=1, help="rounds; the fastest counts")
    add("--batch-size", type=_count, help="images per batch, of every implementation (n)")
    add("--device", default="auto", help="cpu, cuda or auto")
    add("--peer-timeout", type=float, default=900.0, help="seconds after which a peer's run is stopped; 0: never (900)")
    add("--quick", action="store_true", help="divide steps and queries by 20: to try it out, not for any number")
    add("--render", type=Path, nargs="+", help="write table and figure from files that --json wrote; runs no attack")
    add("--out", type=Path, default=Path("docs"), help="folder with benchmarks.md, for --render (docs)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())

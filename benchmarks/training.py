"""Training throughput: robustkit's loop against a plain PyTorch loop, and what each defence adds.

python benchmarks/training.py --json out.json                        # three ResNet-20, 32x32, batch 128
python benchmarks/training.py --defenses baseline,adp --size 28 --channels 1
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import functools
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import _subject
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from robustkit import data
from robustkit.base import options
from robustkit.base.errors import UserError
from robustkit.base.files import write_json
from robustkit.data import Dataset, Source, Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.ensembles.fastpath import fastest
from robustkit.pipeline.request import defended
from robustkit.records.cells import Spec
from robustkit.training.loop import Training
from robustkit.training.ranks import Ranks
from robustkit.training.spec import TrainSpec
from robustkit.training.untrained import initialise

CLASSES = 10
SIDES = {"cuda": 8192}  # of the matrices whose product says what the machine can do; elsewhere 1024
PATIENCE = 1.0  # seconds: a processor without bfloat16 is not asked again
DEFENSES = "baseline,adp,advt-fgsm,advt-pgd,adp+advt-fgsm,sdde,gal,dverge,trs"
# What a step costs at least: so many baseline steps (forward, backward of all weights), so many passes of forward and
# input gradient. AdvT crafts on half of the batch; SDDE passes a second batch, whose maps are differentiated once more,
# as GAL and TRS differentiate input gradients (TRS twice; its three steps differentiate them with respect to images,
# at two passes each). DVERGE shows each of three members two batches, made in ten steps that reach half of the layers.
FLOORS: dict[str, tuple[float, float]] = {
    "advt-fgsm": (1.0, 0.5), "advt-pgd": (1.0, 5.0), "sdde": (2.0, 0.0), "gal": (2.0, 1.0), "dverge": (2.0, 5.0),
    "trs": (3.0, 8.0),
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; 0: done, 2: bad usage."""
    args = _parser().parse_args(argv)
    args.argv = sys.argv[1:] if argv is None else list(argv)
    try:
        result = run(args, Console(highlight=False))
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    Console().print(table(result))
    return 0


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Time ``--repeats`` rounds of ``--steps`` steps of every loop in turn; the fastest round counts."""
    if args.threads:
        torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    noise = _noise(args, device)
    rows: dict[str, Callable[[], int]] = {"plain PyTorch loop": _plain_loop(args, noise, device)}
    ways: dict[str, str] = {}
    for speed in options.names(args.speeds, kind="speed"):
        training = _training(args, "baseline", noise, speed, device)
        rows[f"robustkit, {speed}"], ways[f"robustkit, {speed}"] = _epochs(training), training.way
    best = options.names(args.speeds, kind="speed")[-1]
    for name in options.names(args.defenses, kind="defense"):
        if name != "baseline":
            training = _training(args, name, noise, best, device)
            rows[name], ways[name] = _epochs(training), training.way
    result: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": " ".join(["python", "benchmarks/training.py", *args.argv]),
        "machine": _subject.machine(device),
        "versions": _subject.versions(),
        "input_gradient": _input_gradient(args, noise, device),
        "products": _products(args, noise, device),
        "compared_with": f"robustkit, {best}",
        "rows": {name: {"way": ways.get(name, "as it is"), "all_seconds": []} for name in rows},
    }
    for turn in range(args.repeats + 1):
        for at in range(len(rows)):
            name = list(rows)[(at + turn) % len(rows)]
            started = time.perf_counter()
            steps = rows[name]()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds = (time.perf_counter() - started) / steps
            if turn:  # the first round warms up
                result["rows"][name]["all_seconds"].append(seconds)
        console.print(f"round {turn} of {args.repeats}")
    for name, row in result["rows"].items():
        row["seconds"], row["median_seconds"] = min(row["all_seconds"]), statistics.median(row["all_seconds"])
        row["images_per_second"] = args.batch_size / row["seconds"]
        row["floor_seconds"] = None
        if name in FLOORS:
            steps, gradients = FLOORS[name]
            own = result["rows"][f"robustkit, {best}"]["seconds"]
            row["floor_seconds"] = steps * own + gradients * result["input_gradient"]
    if args.json:
        write_json(args.json, result)
    return result


def table(result: dict[str, Any]) -> Table:
    """Return what was measured for people."""
    rows, products = result["rows"], result["products"]
    plain, own = rows["plain PyTorch loop"]["seconds"], rows[result["compared_with"]]["seconds"]
    reachable = ", ".join(
        f"{speed / 1e9:.0f} GFLOP/s in {name} ({plain * speed / products['flops']:.1f}x)"
        for name, speed in products["speeds"].items()
    )
    shown = Table(
        "loop", "ms a step", "images/s", "against the plain loop", "against the baseline", "floor, ms", "way",
        caption=f"A baseline step is {products['flops'] / 1e9:.3g} GFLOP; matrix products run at {reachable} here. In "
        "brackets: the ratio to the plain loop that a step of nothing but such products would reach.",
    )  # fmt: skip
    for name, row in rows.items():
        floor = "" if row["floor_seconds"] is None else f"{1e3 * row['floor_seconds']:.0f}"
        shown.add_row(
            name, f"{1e3 * row['seconds']:.0f}", f"{row['images_per_second']:.0f}", f"{plain / row['seconds']:.2f}x",
            f"{row['seconds'] / own - 1:+.1%}", floor, row["way"],
        )  # fmt: skip
    return shown


def _noise(args: argparse.Namespace, device: torch.device) -> Dataset:
    """Return a dataset of random images: ``--steps`` batches of them for an epoch. Speed does not depend on pixels."""
    count, generator = args.steps * args.batch_size, torch.Generator().manual_seed(0)
    shape = (args.channels, args.size, args.size)
    pixels = torch.randint(0, 256, (count, *shape), generator=generator, dtype=torch.uint8)
    split = Split(pixels, torch.randint(0, CLASSES, (count,), generator=generator))
    classes = tuple(str(label) for label in range(CLASSES))
    return dataclasses.replace(data.load("digits"), name="noise", source=Source(classes, shape, lambda name: split))


def _spec(args: argparse.Namespace, defense: Spec, speed: str) -> TrainSpec:
    return TrainSpec(
        defense,
        "noise",
        "",
        args.arch,
        members=args.members,
        epochs=args.epochs,
        batch_size=args.batch_size,
        speed=speed,
    )


def _training(args: argparse.Namespace, name: str, noise: Dataset, speed: str, device: torch.device) -> Training:
    return Training(_spec(args, defended(name, {}), speed), noise, None, device, Ranks())


def _baseline(args: argparse.Namespace, noise: Dataset, device: torch.device) -> Ensemble:
    """Return the members that every loop trains, with fresh weights."""
    return initialise(_spec(args, Spec("defense", "baseline", {}), "off"), noise).to(device)


def _epochs(training: Training) -> Callable[[], int]:
    """Return a function that trains an epoch (augmentation, loss, optimiser; no validation) and returns its steps."""

    def epoch() -> int:
        training.work.epoch(1, lambda recent: None)
        return training.work.steps

    return epoch


def _plain_loop(args: argparse.Namespace, noise: Dataset, device: torch.device) -> Callable[[], int]:
    """Return the loop that one would write without thinking of speed: each member on each batch, float32, Adam."""
    ensemble = _baseline(args, noise, device).train()
    optimiser = torch.optim.Adam(ensemble.parameters(), 1e-3, weight_decay=1e-4)
    x, y = noise.split("train").tensor(), noise.split("train").y

    def epoch() -> int:
        for images, labels in zip(torch.split(x, args.batch_size), torch.split(y, args.batch_size), strict=True):
            images, labels = images.to(device), labels.to(device)
            optimiser.zero_grad()
            loss: Tensor = sum(functional.cross_entropy(member(images), labels) for member in ensemble.members)  # type: ignore[assignment]
            loss.backward()
            optimiser.step()
        return args.steps

    return epoch


def _input_gradient(args: argparse.Namespace, noise: Dataset, device: torch.device) -> float:
    """Return the seconds of a forward pass with input gradient on a whole batch, in eval mode."""
    ensemble = _baseline(args, noise, device).eval()
    ensemble.requires_grad_(False).to(memory_format=torch.channels_last)
    x = noise.split("train").tensor()[: args.batch_size].to(device)

    def gradient() -> None:
        point = x.clone().requires_grad_()
        torch.autograd.grad(ensemble(point).sum(), point)

    return fastest(gradient, device)


def _products(args: argparse.Namespace, noise: Dataset, device: torch.device) -> dict[str, Any]:
    """Return the operations of a baseline step and how many a second large matrix products do: no loop is faster."""
    ensemble = _baseline(args, noise, device).train()
    x = noise.split("train").tensor()[: args.batch_size].to(device)
    with FlopCounterMode(display=False) as counter:  # counts products, so that the loss does not matter
        torch.autograd.backward(ensemble.member_logits(x).sum())
    side, speeds = SIDES.get(device.type, 1024), {}
    for name, kind in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a = torch.randn(side, side, device=device).to(kind)
        speeds[name] = 2 * side**3 / fastest(functools.partial(torch.mm, a, a), device, hopeless=PATIENCE)
    return {"flops": counter.get_total_flops(), "speeds": speeds}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="resnet20")
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--size", type=int, default=32, help="pixels of a side")
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10, help="steps of a round")
    parser.add_argument("--repeats", type=int, default=3, help="rounds that count; one more warms up")
    parser.add_argument("--epochs", type=int, default=40, help="for how long a training the trial decides on compiling")
    parser.add_argument("--speeds", default="off,auto", help="the last one is compared, and runs the defences")
    parser.add_argument("--defenses", default=DEFENSES)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())

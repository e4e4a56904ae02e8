"""APGD in l1 beside adversarial-library's at equal steps: robust accuracy at some budgets, and seconds.

python benchmarks/apgd_l1.py --truth TRUTH --models digits,mnist-truth --n 200 --json out.json --markdown out.md

Both are SAPGD in narrowing balls (Croce and Hein 2021, arXiv:2103.01208) from one random start, on one thread, each row
in both orders; the fastest pass counts, in seconds of this process's CPU. Robust accuracy is the mean of the passes,
each of other random starts: it is judged here, and a point beyond its budget or the box leaves its image robust.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import _minimum_peers as peers
import numpy as np
import torch
from minimum_norm import MODELS, OWN, asked_models, subject
from rich.console import Console
from torch import Tensor, nn

from robustkit import attacks
from robustkit.base.errors import UserError
from robustkit.base.files import write_json
from robustkit.functional.norms import size

BUDGETS = {
    "digits": (0.5, 0.75, 1.0), "mnist": (4.0, 6.0, 8.0), "mnist-truth": (4.0, 6.0, 8.0), "cifar-truth": (4.0, 6.0, 8.0)
}  # fmt: skip
PEER, CLOSE = "adv-lib", 1e-5


@dataclass
class Result:
    """What an implementation made of a row: its robust accuracy and CPU seconds in each pass."""

    model: str
    loss: str
    steps: int
    eps: float
    n: int
    implementation: str
    robust: list[float]
    seconds: list[float]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; 0: done, 2: bad usage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truth", type=Path, help="folder of the two networks with known truth")
    parser.add_argument("--mnist", type=Path, help="where MNIST lies, in torchvision's layout")
    parser.add_argument("--models", default="", help=f"some of {','.join(MODELS)}; by default those that are there")
    parser.add_argument("--losses", default="ce,dlr", help="some of ce,dlr")
    parser.add_argument("--steps", default="40,100", help="numbers of steps")
    parser.add_argument("--n", type=int, default=100, help="images")
    parser.add_argument("--repeats", type=int, default=4, help="passes, each second one in the opposite order")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    console = Console(highlight=False, soft_wrap=True)
    try:
        found = list(measure(args, console))
    except (UserError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.json:
        write_json(args.json, [asdict(result) for result in found])
    lines = "\n".join(table(found))
    if args.markdown:
        args.markdown.write_text(lines + "\n", "utf-8")
    print(lines)
    return 0


def measure(args: argparse.Namespace, console: Console) -> Iterator[Result]:
    """Yield the results of every row on every model."""
    for name in asked_models(args):
        model, x, y = subject(name, args)
        console.print(f"{name}: {len(x)} images, load {os.getloadavg()[0]:.1f}")
        for loss in args.losses.split(","):
            for steps in map(int, args.steps.split(",")):
                for eps in BUDGETS[name]:
                    pair = row(model, x, y, loss, steps, eps, args.repeats)
                    for which, (robust, seconds) in pair.items():
                        result = Result(name, loss, steps, eps, len(x), which, robust, seconds)
                        console.print(json.dumps(asdict(result)))
                        yield result


def row(
    model: nn.Module, x: Tensor, y: Tensor, loss: str, steps: int, eps: float, repeats: int
) -> dict[str, tuple[list[float], list[float]]]:
    """Return by implementation its robust accuracies and seconds, one a pass."""
    theirs = peers.adv_lib_attacks().apgd
    own = attacks.get(f"apgd-{loss}")
    runs: dict[str, Callable[[int], Tensor]] = {
        OWN: lambda seed: own(model, x, y, eps=eps, norm="l1", steps=steps, generator=seed),
        PEER: lambda _: theirs(model, x, y, eps, norm=1, n_iter=steps, loss_function=loss, use_large_reps=True),
    }
    found: dict[str, tuple[list[float], list[float]]] = {which: ([], []) for which in runs}
    for repeat in range(repeats):
        for which in list(runs) if repeat % 2 == 0 else list(reversed(runs)):
            torch.manual_seed(repeat)
            started = time.process_time()
            made = runs[which](repeat).detach()
            found[which][1].append(time.process_time() - started)
            found[which][0].append(1 - float(broken(model, x, y, made, eps).double().mean()))
    return found


@torch.no_grad()
def broken(model: nn.Module, x: Tensor, y: Tensor, made: Tensor, eps: float) -> Tensor:
    """Return which images are adversarial within the budget and the box, (N,)."""
    inside = (made.isfinite() & (made >= -CLOSE) & (made <= 1 + CLOSE)).flatten(1).all(1)
    return (model(made).argmax(1) != y) & inside & (size(made - x, "l1") <= eps * (1 + 1e-3))


def table(found: Sequence[Result]) -> list[str]:
    """Return the lines of the table, a row for each model, loss, steps and budget."""
    lines = [f"| model | loss, steps | eps | {OWN} % | {PEER} % | {OWN} CPU s | {PEER} CPU s |"]
    lines.append("|---|---|---:|---:|---:|---:|---:|")
    rows: dict[tuple[str, str, int, float], dict[str, Result]] = {}
    for r in found:
        rows.setdefault((r.model, r.loss, r.steps, r.eps), {})[r.implementation] = r
    for (model, loss, steps, eps), by in rows.items():
        robust = " | ".join(f"{100 * np.mean(by[which].robust):.2f}" for which in (OWN, PEER))
        seconds = " | ".join(f"{min(by[which].seconds):.2f}" for which in (OWN, PEER))
        lines.append(f"| {model} | {loss}, {steps} | {eps:g} | {robust} | {seconds} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())

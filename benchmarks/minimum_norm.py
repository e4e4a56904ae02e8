"""Attacks of smallest distance beside those of adversarial-library and foolbox: seconds and distances at equal steps.

python benchmarks/minimum_norm.py --truth TRUTH --mnist DATA --n 100 --json out.json --markdown out.md

One thread, the same model and images, each row in both orders; the fastest pass counts, in seconds of this process's
CPU, which other work on the machine disturbs least. A library that is not installed is left out.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import _minimum_peers as peers
import torch
from _cnn_a import published
from rich.console import Console
from torch import Tensor, nn

from robustkit import attacks, data
from robustkit.base.errors import UserError, unknown
from robustkit.base.files import write_json
from robustkit.base.progress import Reporter
from robustkit.functional.norms import size
from robustkit.functional.trace import Trace
from robustkit.pipeline import models_under_test
from robustkit.records.cells import Spec

OWN = "robustkit"
MODELS = ("digits", "mnist", "mnist-truth", "cifar-truth")


@dataclass(frozen=True)
class Row:
    """An attack, the norm that it makes small, and its steps; ``runs`` of them, each with another constant.

    ``norm`` "en" is what EAD's rule EN has least of: the square of l2 and ``peers.BETA`` of l1.
    """

    attack: str
    norm: str
    steps: int
    runs: int = 0

    @property
    def name(self) -> str:
        """The row as it is asked for."""
        return f"{self.attack}-{self.norm}-{self.steps}"

    def params(self) -> dict[str, Any]:
        """Return the parameters of robustkit's attack."""
        given: dict[str, Any] = {"steps": self.steps}
        if len(attacks.attack.entry(self.attack).facts["norms"]) > 1:
            given["norm"] = self.norm
        if self.runs:
            given |= {"search_steps": self.runs, "initial_c": peers.INITIAL_C}
        return given | ({"decision_rule": self.norm.upper(), "beta": peers.BETA} if self.attack == "ead" else {})

    def distance(self, d: Tensor) -> Tensor:
        """Return what this row makes small, of differences (B, C, H, W): (B,)."""
        if self.norm == "en":
            return size(d, "l2").square() + peers.BETA * size(d, "l1")
        return size(d, self.norm)


ROWS = (
    Row("sigma-zero", "l0", 100), Row("sigma-zero", "l0", 1000), Row("pdpgd", "l0", 200), Row("fmn", "l0", 100),
    Row("pdpgd", "l1", 200), Row("fmn", "l1", 100), Row("ddn", "l2", 100), Row("pdpgd", "l2", 200),
    Row("fmn", "l2", 100), Row("pdpgd", "linf", 200), Row("fmn", "linf", 100), Row("cw", "l2", 200, 5),
    Row("ead", "l1", 200, 5), Row("ead", "en", 200, 5), Row("cw", "l2", 500, 9), Row("ead", "l1", 500, 9),
    Row("ead", "en", 500, 9),
)  # fmt: skip


@dataclass
class Result:
    """What an implementation made of a row: CPU seconds of each pass, successes, distances where all succeeded."""

    model: str
    row: str
    implementation: str
    seconds: list[float]
    found: float = 0.0
    mean: float = float("nan")
    median: float = float("nan")
    passes: float = float("nan")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; 0: done, 2: bad usage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truth", type=Path, help="folder of the two networks with known truth")
    parser.add_argument("--mnist", type=Path, help="where MNIST lies, in torchvision's layout")
    parser.add_argument("--models", default="", help=f"some of {','.join(MODELS)}; by default those that are there")
    parser.add_argument("--only", default="", help="some rows, like sigma-zero-l0-100 or ddn")
    parser.add_argument("--peers", default=",".join(peers.RUNS), help="some of the libraries")
    parser.add_argument("--n", type=int, default=100, help="images")
    parser.add_argument("--repeats", type=int, default=2, help="passes, each second one in the opposite order")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    args = parser.parse_args(argv)
    console = Console(highlight=False, soft_wrap=True)
    torch.set_num_threads(1)
    try:
        found = measure(args, console)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.json:
        write_json(args.json, [_plain(asdict(result)) for result in found])
    if args.markdown:
        args.markdown.write_text("\n".join(table(found)) + "\n", "utf-8")
    console.print("\n".join(table(found)))
    return 0


def _plain(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result as JSON has it, which knows no NaN: peers do not tell their passes."""
    return {name: None if value != value else value for name, value in result.items()}


def asked_models(args: argparse.Namespace) -> list[str]:
    """Return the models that are asked for, of those whose data are there; by default all of these."""
    there = ["digits", *(["mnist"] if args.mnist else []), *(MODELS[2:] if args.truth else [])]
    asked = args.models.split(",") if args.models else there
    for name in asked:
        if name not in there:
            raise unknown("model", name, there)
    return asked


def measure(args: argparse.Namespace, console: Console) -> list[Result]:
    """Return the results of every row on every model."""
    asked = asked_models(args)
    rows = [row for row in ROWS if not args.only or {row.name, row.attack} & set(args.only.split(","))]
    if not rows:
        raise unknown("row", args.only, [row.name for row in ROWS])
    taking_part = [peer for peer in args.peers.split(",") if peer]
    for peer in taking_part:
        if peer not in peers.RUNS:
            raise unknown("library", peer, peers.RUNS)
        if not peers.installed(peer):
            console.print(f"{peer} is not installed, and left out")
    found: list[Result] = []
    for name in asked:
        model, x, y = subject(name, args)
        console.print(f"{name}: {len(x)} images, load {os.getloadavg()[0]:.1f}")
        for row in rows:
            results = list(row_of(name, model, x, y, row, args.repeats, taking_part))
            found += results
            console.print(
                row.name, *(f"{r.implementation} {min(r.seconds):.2f} s {r.found:.3f} {r.mean:.4g}" for r in results)
            )
    return found


def subject(name: str, args: argparse.Namespace) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a network of frozen weights, and those of the first images that it classifies correctly."""
    if name.endswith("truth"):
        kind = name.removesuffix("-truth")
        model: nn.Module
        model, x, y = published(args.truth / f"{kind}_cnn_a_adv.model", args.truth / f"{kind}_sdp.npz")
    else:
        loaded = data.load(name, data_dir=args.mnist) if name == "mnist" else data.load(name)
        asked = {"arch": "lenet", "members": 1, **({"epochs": 2} if name == "mnist" else {})}
        spec = models_under_test.train_spec(Spec("defense", "baseline", {}), loaded, asked)
        model = models_under_test.trained(spec, loaded, torch.device("cpu"), Reporter())[1].members[0]
        first = loaded.split("test").take(2 * args.n)
        x, y = first.tensor(), first.y
    model = model.eval().requires_grad_(False)
    right = model(x).argmax(1) == y
    return model, x[right][: args.n], y[right][: args.n]


def own_run(model: nn.Module, x: Tensor, y: Tensor, row: Row, trace: Trace | None = None) -> peers.Run:
    """Return the call of robustkit's attack."""
    return lambda: attacks.get(row.attack)(model, x, y, **row.params(), trace=trace)


def row_of(
    name: str, model: nn.Module, x: Tensor, y: Tensor, row: Row, repeats: int, taking_part: Sequence[str]
) -> Iterator[Result]:
    """Yield the results of every implementation of a row."""
    trace = Trace(len(x))
    runs = {OWN: own_run(model, x, y, row, trace)}
    for peer in taking_part:
        if peers.installed(peer) and (made := peers.RUNS[peer](model, x, y, row.attack, row.norm, row.steps, row.runs)):
            runs[peer] = made
    results = {which: Result(name, row.name, which, []) for which in runs}
    made: dict[str, Tensor] = {}
    for repeat in range(repeats):
        for which in list(runs) if repeat % 2 == 0 else list(reversed(runs)):
            started = time.process_time()
            made[which] = runs[which]().detach()
            results[which].seconds.append(time.process_time() - started)
    results[OWN].passes = float(trace.forwards.double().mean()) / repeats
    with torch.no_grad():
        won = {
            which: (model(images).argmax(1) != y) & images.isfinite().flatten(1).all(1)
            for which, images in made.items()
        }
    both = torch.stack(list(won.values())).all(0)
    for which, result in results.items():
        distance = row.distance(made[which] - x)[both]
        result.found = float(won[which].double().mean())
        if len(distance):
            result.mean, result.median = float(distance.mean()), float(distance.median())
        yield result


def table(found: Sequence[Result]) -> list[str]:
    """Return the lines of the table, a row for each row of the benchmark and model."""
    lines = [
        "| model | attack, steps | implementation | CPU s | broken | mean | median | robustkit: times as fast, mean |"
    ]
    lines.append("|---|---|---|---:|---:|---:|---:|---:|")
    own = {(r.model, r.row): r for r in found if r.implementation == OWN}
    for r in found:
        ours, versus = own[r.model, r.row], ""
        if r is not ours:
            versus = f"{min(r.seconds) / min(ours.seconds):.2f}x, {ours.mean / r.mean:.3f}"
        lines.append(
            f"| {r.model} | {r.row} | {r.implementation} | {min(r.seconds):.2f} | {r.found:.3f} | {r.mean:.4g} | "
            f"{r.median:.4g} | {versus} |"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())

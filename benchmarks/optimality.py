"""How near each attack of smallest distance comes to the best of ours, adversarial-library's and foolbox's together.

python benchmarks/optimality.py --truth TRUTH --mnist DATA --n 50 --json out.json --markdown out.md

Of every norm and model, the area between clean accuracy and the attack's curve over distances, as a share of that of
the pointwise best of all (Cina et al. 2024, arXiv:2404.19460). One thread. What stands in the file is not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import _minimum_peers as peers
import numpy as np
import torch
from minimum_norm import MODELS, OWN, Row, asked_models, own_run, subject
from rich.console import Console
from torch import Tensor, nn

from robustkit.attacks import attack as registry
from robustkit.base.errors import UserError, unknown
from robustkit.base.files import write_json
from robustkit.functional.norms import size
from robustkit.metrics.optimality import optimality

NORMS = ("l0", "l1", "l2", "linf")
ROWS = (
    Row("nearest", "l0", 300), Row("sigma-zero", "l0", 300), Row("pdpgd", "l0", 300), Row("fmn", "l0", 300),
    Row("vfga", "l0", 300), Row("nearest", "l1", 300), Row("pdpgd", "l1", 300), Row("fmn", "l1", 300),
    Row("ead", "l1", 500, 9), Row("alma", "l1", 300), Row("fab", "l1", 50), Row("nearest", "l2", 300),
    Row("ddn", "l2", 300), Row("pdpgd", "l2", 300), Row("fmn", "l2", 300), Row("cw", "l2", 300, 3),
    Row("alma", "l2", 300), Row("fab", "l2", 50), Row("deepfool", "l2", 50), Row("nearest", "linf", 300),
    Row("pdpgd", "linf", 300), Row("fmn", "linf", 300), Row("fab", "linf", 50), Row("deepfool", "linf", 50),
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; 0: done, 2: bad usage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truth", type=Path, help="folder of the two networks with known truth")
    parser.add_argument("--mnist", type=Path, help="where MNIST lies, in torchvision's layout")
    parser.add_argument("--models", default="", help=f"some of {','.join(MODELS)}; by default those that are there")
    parser.add_argument("--only", default="", help="some rows, like sigma-zero-l0-1000 or ddn, or a norm")
    parser.add_argument("--n", type=int, default=50, help="images")
    parser.add_argument("--json", type=Path, help="written after each attack")
    parser.add_argument("--markdown", type=Path)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    try:
        found = measure(args, Console(highlight=False, soft_wrap=True))
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.markdown:
        args.markdown.write_text("\n".join(table(found)) + "\n", "utf-8")
    print("\n".join(table(found)))
    return 0


def measure(args: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    """Return the distances of every attack on every model; what failed is infinitely far (None)."""
    asked = asked_models(args)
    wanted = set(args.only.split(","))
    rows = [row for row in ROWS if not args.only or {row.name, row.attack, row.norm} & wanted]
    if not rows:
        raise unknown("row", args.only, [row.name for row in ROWS])
    found = json.loads(args.json.read_text("utf-8")) if args.json and args.json.exists() else []
    done = {(one["model"], one["row"], one["implementation"]) for one in found}
    for name in asked:
        model, x, y = subject(name, args)
        console.print(f"{name}: {len(x)} images, load {os.getloadavg()[0]:.1f}")
        for row in rows:
            for which, run in offers(model, x, y, row):
                if (name, row.name, which) in done:
                    continue
                started = time.process_time()
                try:
                    made = run().detach()
                except (IndexError, RuntimeError, ValueError) as error:
                    if which == OWN:
                        raise
                    console.print(f"{row.name} {which} failed: {error}")
                    made = x  # which is right, and so infinitely far
                seconds = time.process_time() - started
                distances = judged(model, x, y, made, row.norm)
                found.append(
                    {
                        "model": name, "row": row.name, "norm": row.norm, "implementation": which,
                        "seconds": seconds, "distances": [d if math.isfinite(d) else None for d in distances],
                    }
                )  # fmt: skip
                if args.json:
                    write_json(args.json, found)
                there = [d for d in distances if d < math.inf]
                mean = f"mean {np.mean(there):.4g}" if there else "nothing found"
                console.print(f"{row.name} {which} {seconds:.2f} s, {mean}")
    return [one for one in found if one["model"] in asked]


def offers(model: nn.Module, x: Tensor, y: Tensor, row: Row) -> Iterator[tuple[str, peers.Run]]:
    """Yield who offers an attack, and its call."""
    if row.attack in registry:
        yield OWN, own_run(model, x, y, row)
    for peer, offered in peers.RUNS.items():
        if peers.installed(peer) and (made := offered(model, x, y, row.attack, row.norm, row.steps, row.runs)):
            yield peer, made


@torch.no_grad()
def judged(model: nn.Module, x: Tensor, y: Tensor, made: Tensor, norm: str) -> list[float]:
    """Return the distance of each image, (N,); infinite where it is not adversarial or left the box."""
    inside = (made.isfinite() & (made >= 0) & (made <= 1)).flatten(1).all(1)
    won = (model(made).argmax(1) != y) & inside
    return [float(d) for d in torch.where(won, size(made - x, norm), math.inf)]


def table(found: Sequence[dict[str, Any]]) -> list[str]:
    """Return the lines of the table: a row for each attack, a column for each model, our best of each norm bold."""
    models = [name for name in MODELS if any(one["model"] == name for one in found)]
    lines = ["| norm | attack, steps | implementation | " + " | ".join(models) + " | CPU s |"]
    lines.append("|---|---|---|" + "---:|" * (len(models) + 1))
    for norm in NORMS:
        rated: dict[tuple[str, str], dict[str, tuple[float, float]]] = {}
        for name in models:
            here = [one for one in found if (one["model"], one["norm"]) == (name, norm)]
            if not here:
                continue
            distances = np.array([[math.inf if d is None else d for d in one["distances"]] for one in here])
            shares = optimality(distances, np.isfinite(distances).astype(float))
            for one, share in zip(here, shares, strict=True):
                rated.setdefault((one["row"], one["implementation"]), {})[name] = (float(share), one["seconds"])
        best = {
            name: max((by[name][0] for (_, which), by in rated.items() if which == OWN and name in by), default=0.0)
            for name in models
        }
        order = sorted(rated.items(), key=lambda item: -float(np.mean([share for share, _ in item[1].values()])))
        for (row, which), by in order:
            cells = [_cell(by.get(name), best[name], which) for name in models]
            seconds = sum(each for _, each in by.values())
            lines.append(f"| {norm} | {row} | {which} | {' | '.join(cells)} | {seconds:.0f} |")
    return lines


def _cell(value: tuple[float, float] | None, best: float, which: str) -> str:
    if value is None:
        return ""
    text = f"{value[0]:.3f}".lstrip("0")
    return f"**{text}**" if which == OWN and value[0] == best else text


if __name__ == "__main__":
    sys.exit(main())

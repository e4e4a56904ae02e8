"""Why SDDE tells notMNIST from MNIST worse, or better, than a plain ensemble: one thing changed at a time.

python benchmarks/sdde_ablation.py --data-dir D --out ablation.jsonl
python benchmarks/sdde_ablation.py --data-dir D --out ablation.jsonl --only "plain; sdde" --seeds 0-2 --epochs 40

Ensembles by the SDDE paper's recipe, but for the images, epochs, batches and members that are asked for. Each row is a
line of --out as soon as it is there: killed, the same command goes on. Seconds are of the processor.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from rich.console import Console
from sklearn.metrics import roc_auc_score
from torch import Tensor

from robustkit import data
from robustkit.base import options
from robustkit.base.errors import UserError
from robustkit.data import Dataset, Split
from robustkit.ensembles.fusion import mean_prob
from robustkit.metrics.scores import SCORES
from robustkit.pipeline.request import defended
from robustkit.training import recipes
from robustkit.training.loop import fit
from robustkit.training.spec import SETTABLE, TrainSpec

LENETS = Path(__file__).with_name("_lenets.py")
SHOWN = ("msp of mean-prob", "msp of mean-logit", "mal", "min-max-logit", "mutual-information", "msp of one member")
ASKED = ("images", "epochs", "batch", "members", "test")
PARAMS = ("lam", "layer")  # of SDDE
THEIRS = {"arch": "openood", "layer": "block2"}
MIRRORED = {"flip": True, "shift": 4 / 28}  # as OpenOOD prepares images for training
# By row: the defence, and what is not as in the run of docs/ood.md. ``raw``: maps that are not standardised.
ROWS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "plain": ("baseline", {}),
    "sdde": ("sdde", {}),
    "conv2": ("sdde", {"layer": "conv2"}),
    "raw": ("sdde", {"raw": True}),
    "lam 0": ("sdde", {"lam": 0.0}),
    "lam 0.01": ("sdde", {"lam": 0.01}),
    "plain, mirrored": ("baseline", MIRRORED),
    "mirrored": ("sdde", MIRRORED),
    "conv2, mirrored": ("sdde", {**MIRRORED, "layer": "conv2"}),
    "plain, openood": ("baseline", {"arch": "openood"}),
    "openood": ("sdde", THEIRS),
    "openood, first layer": ("sdde", {**THEIRS, "layer": "block1.0"}),
    "openood, raw": ("sdde", {**THEIRS, "raw": True}),
    "plain, openood, mirrored": ("baseline", {**MIRRORED, "arch": "openood"}),
    "openood, mirrored": ("sdde", {**MIRRORED, **THEIRS}),
    "plain, openood, mirrored, centred": ("baseline", {**MIRRORED, "arch": "centred"}),
    "openood, mirrored, centred": ("sdde", {**MIRRORED, **THEIRS, "arch": "centred"}),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Train and score what is not in --out yet, then print the table; 0: done, 2: bad usage."""
    args = _parser().parse_args(argv)
    try:
        names = _names(args.only)
        mnist, letters = _images(args)
        for name in names:
            for seed in options.seeds(args.seeds):
                if not any(_same(row, name, seed, args) for row in _read(args.out)):
                    with args.out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(measured(name, seed, args, mnist, letters)) + "\n")
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for line in table([row for row in _read(args.out) if row["row"] in names]):
        Console(highlight=False, soft_wrap=True).print(line, markup=False)
    return 0


def measured(name: str, seed: int, args: argparse.Namespace, mnist: Dataset, letters: Split) -> dict[str, Any]:
    """Train an ensemble and return what its scores make of MNIST's test images and the letters."""
    defence, changes = ROWS[name]
    started = time.process_time()
    with _maps(raw=bool(changes.get("raw"))):
        trained = fit(spec(defence, changes, seed, args), mnist)
    seconds = time.process_time() - started
    test = mnist.split("test")
    with torch.no_grad():
        own, foreign = (
            torch.cat([trained.ensemble.member_logits(x) for x in split.tensor().split(500)], 1)
            for split in (test, letters)
        )
    return {
        "row": name, "seed": seed, **{key: getattr(args, key) for key in ASKED},
        "cpu_seconds": seconds, "accuracy": _right(mean_prob(own), test.y),
        "member_accuracy": [_right(z, test.y) for z in own],
        "auroc": dict(aurocs(own, foreign)), "history": trained.history,
    }  # fmt: skip


def spec(defence: str, changes: Mapping[str, Any], seed: int, args: argparse.Namespace) -> TrainSpec:
    """Return the paper's training on MNIST but for the epochs, the members and what a row changes."""
    own = {"lam": 0.1, **{key: changes[key] for key in PARAMS if key in changes}} if defence == "sdde" else {}
    recipe = {**recipes.of("sdde", "mnist"), "batch_size": args.batch, **changes}
    fields = {key: value for key, value in recipe.items() if key in SETTABLE}
    arch = f"{LENETS}:{changes['arch']}" if "arch" in changes else "lenet"
    return TrainSpec(
        defended(defence, {}, own), "mnist", "", arch, members=args.members, epochs=args.epochs, seed=seed,
        speed="off", **fields,
    )  # fmt: skip


def aurocs(own: Tensor, foreign: Tensor) -> Iterator[tuple[str, float]]:
    """Yield every score's AUROC, from the logits (M, N, L) of images that are normal and of others."""
    logits = [z.double().numpy() for z in (own, foreign)]
    truth = [1] * own.shape[1] + [0] * foreign.shape[1]
    means = [(mean_prob(z).double().numpy(), z.mean(0).log_softmax(1).double().numpy()) for z in (own, foreign)]
    for name, score in SCORES.items():
        for fusion, at in (("mean-prob", 0), ("mean-logit", 1)) if name == "msp" else (("", 0),):
            values = [v for z, fused in zip(logits, means, strict=True) for v in score(z, fused[at])]
            yield f"{name} of {fusion}" if fusion else name, float(roc_auc_score(truth, values))
    alone = [
        float(roc_auc_score(truth, torch.cat([a.softmax(1), b.softmax(1)]).amax(1)))
        for a, b in zip(own, foreign, strict=True)
    ]
    yield "msp of one member", statistics.mean(alone)


def table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of the table in Markdown: AUROC in %, mean and standard deviation over the seeds."""
    yield "| row | images x epochs | seeds | " + " | ".join(SHOWN) + " | accuracy | cosine, last epoch | CPU s |"
    yield "| :--- | ---: | ---: |" + " ---: |" * (len(SHOWN) + 3)
    for key in dict.fromkeys((r["row"], r["images"], r["epochs"], r["batch"], r["members"]) for r in rows):
        of = [r for r in rows if (r["row"], r["images"], r["epochs"], r["batch"], r["members"]) == key]
        cosines = [r["history"][-1]["cosine"] for r in of if "cosine" in r["history"][-1]]
        shown = [_spread([100 * r["auroc"][score] for r in of], 1) for score in SHOWN]
        shown += [_spread([100 * r["accuracy"] for r in of], 2), _spread(cosines, 2) if cosines else "-"]
        shown += [f"{statistics.mean(r['cpu_seconds'] for r in of):.0f}"]
        yield f"| {key[0]} | {key[1]:,} x {key[2]} | {len(of)} | " + " | ".join(shown) + " |"


def _spread(values: Sequence[float], digits: int) -> str:
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def _maps(raw: bool) -> Any:
    """Return the context in which SDDE takes its maps as they are, uncropped, if ``raw``."""
    module = importlib.import_module("robustkit.defenses.sdde")
    return mock.patch.object(module, "standardised", (lambda maps: maps) if raw else module.standardised)


def _images(args: argparse.Namespace) -> tuple[Dataset, Split]:
    """Return MNIST with fewer images in each split, and the letters."""
    whole = data.load("mnist", data_dir=args.data_dir)
    sizes = {"train": args.images, "validation": min(args.images, 1000), "test": args.test}
    splits = {name: whole.split(name).take(n) for name, n in sizes.items()}
    source = dataclasses.replace(whole.source, read=lambda name: splits[name])
    letters = data.load("notmnist", data_dir=args.data_dir).everything().take(args.test)
    return dataclasses.replace(whole, source=source, _splits={}), letters


def _right(logits: Tensor, y: Tensor) -> float:
    return float((logits.argmax(1) == y).double().mean())


def _names(only: str) -> list[str]:
    names = [part.strip() for part in only.split(";") if part.strip()] if only else list(ROWS)
    if wrong := [name for name in names if name not in ROWS]:
        raise UserError(f"unknown row '{wrong[0]}'; known, to be separated by semicolons: {'; '.join(ROWS)}.")
    return names


def _same(row: Mapping[str, Any], name: str, seed: int, args: argparse.Namespace) -> bool:
    asked = {"row": name, "seed": seed, **{key: getattr(args, key) for key in ASKED}}
    return all(row[key] == value for key, value in asked.items())


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="holds MNIST/raw and notMNIST/raw")
    parser.add_argument("--out", type=Path, required=True, help="a line of JSON for each row and seed")
    parser.add_argument("--only", default="", help="rows, separated by semicolons; empty: all")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=128, help="images of a step; the paper's 128")
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--test", type=int, default=5000, help="test images, and letters")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""Images per second of an attack's pass, and which share of the card's peak that is: ``python benchmarks/gpu.py``.

Three ResNet-20 on 32x32 images, forward and input gradient, in each way in which attacks compute them and at several
batch sizes. The peak is what products of large matrices reach here, in the precision of the way; the share is of a pass
that does nothing but the network's own products. ``--data DIR`` writes the images that ``benchmarks/gpu.sh`` attacks.
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _subject
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from robustkit import data, models
from robustkit.base.devices import find_device, free_on
from robustkit.ensembles.ensemble import Ensemble, Member
from robustkit.ensembles.fastpath import _channels_last, _folded, _Rough, _Stacked, fastest, prepare
from robustkit.functional.batching import out_of_memory
from robustkit.functional.precision import exactly

BATCHES = (64, 256, 1024, 2048)
SIDES = {"cuda": 8192}  # of the matrices whose product says what the machine can do; elsewhere 512
Ways = dict[str, tuple[Ensemble, str]]


def main() -> None:
    """Print the table in Markdown; ``--json`` keeps the figures."""
    args = _parser().parse_args()
    if args.data:
        write_images(args.data)
        return
    if args.training:
        print(training_table(json.loads(args.training.read_text("utf-8"))))
        return
    device = find_device(args.device)
    ensemble = _ensemble(args.arch).to(device)
    x = torch.rand((max(args.batches), 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(device)
    with exactly(device):
        ways, peaks, flops = _ways(ensemble, x[:32]), _peaks(device), _flops(ensemble, x[:1])
        chosen = prepare(ensemble, x, batch=len(x)).chosen
        rows = {name: [_rate(model, x[:size], device) for size in args.batches] for name, (model, _) in ways.items()}
    where = free_on(device) if device.type == "cuda" else str(_subject.machine(device)["cpu"])
    print(f"Three {args.arch}, {flops / 1e6:.0f} MFLOP an image; {where}; torch {torch.__version__}.")
    said = ", ".join(f"{name} {speed / 1e12:.2f}" for name, speed in peaks.items())
    print(f"Products of large matrices, TFLOP/s: {said}. `--speed auto` chooses: {chosen}.\n")
    print("| images per second (share of the peak) | " + " | ".join(map(str, args.batches)) + " |")
    print("|---|" + "---|" * len(args.batches))
    for name, found in rows.items():
        peak = peaks[ways[name][1]]
        print(f"| {name} | " + " | ".join(_cell(rate, flops, peak) for rate in found) + " |")
    if args.json:
        facts = {"machine": _subject.machine(device), "versions": _subject.versions(), "flops": flops, "peaks": peaks,
                 "chosen": chosen, "batches": list(args.batches), "rows": rows}  # fmt: skip
        args.json.write_text(json.dumps(facts, indent=1), "utf-8")


def _cell(rate: float | None, flops: int, peak: float) -> str:
    return "does not fit" if rate is None else f"{rate:,.0f} ({rate * flops / peak:.1%})"


def _ensemble(arch: str) -> Ensemble:
    torch.manual_seed(0)
    return Ensemble([Member(models.build(arch, 3, 10, {})) for _ in range(3)]).eval().requires_grad_(False)


def _ways(ensemble: Ensemble, x: Tensor) -> Ways:
    """Return the model in each way, with the precision of its products."""
    folded = _folded(ensemble, x)[0]
    last, stacked = _channels_last(folded), _Stacked(copy.deepcopy(folded))
    return {
        "as it is": (ensemble, "float32"),
        "folded": (folded, "float32"),
        "folded, channels last": (last, "float32"),
        "folded, stacked": (stacked, "float32"),
        "folded, channels last, bfloat16": (_Rough(last), "bfloat16"),
        "folded, stacked, bfloat16": (_Rough(stacked), "bfloat16"),
    }


def _rate(model: Ensemble, x: Tensor, device: torch.device) -> float | None:
    """Return images per second of a forward pass with input gradient; None where it does not fit."""

    def once() -> None:
        point = x.detach().requires_grad_()
        torch.autograd.grad(model(point).amax(1).sum(), point)

    try:
        return len(x) / fastest(once, device)
    except RuntimeError as error:
        if out_of_memory(error):
            return None
        raise


def _flops(ensemble: Ensemble, x: Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        point = x.detach().requires_grad_()
        torch.autograd.backward(ensemble(point).sum())  # the weights are frozen; the counter knows no autograd.grad
    return int(counter.get_total_flops() / len(x))


def _peaks(device: torch.device) -> dict[str, float]:
    side, found = SIDES.get(device.type, 512), {}
    for name, kind in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a = torch.randn(side, side, device=device).to(kind)
        product: Callable[[], Any] = functools.partial(torch.mm, a, a)
        found[name] = 2 * side**3 / fastest(product, device, hopeless=1.0)
    return found


def training_table(result: dict[str, Any]) -> str:
    """Return what ``benchmarks/training.py --json`` wrote as a table in Markdown."""
    plain = result["rows"]["plain PyTorch loop"]["seconds"]
    heads = ("loop", "ms a step", "all rounds", "images a second", "against the plain loop", "way")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, row in result["rows"].items():
        rounds = ", ".join(f"{1e3 * seconds:.1f}" for seconds in row["all_seconds"])
        lines.append(
            f"| {name} | {1e3 * row['seconds']:.1f} | {rounds} | {row['images_per_second']:,.0f} | "
            f"{plain / row['seconds']:.2f} | {row['way']} |"
        )
    return "\n".join(lines)


def write_images(folder: Path) -> None:
    """Write the digits as 3x32x32 images: with their division to train on, and all of them to attack."""
    folder.mkdir(parents=True, exist_ok=True)
    loaded, divided = data.load("digits"), dict[str, Any]()
    for short, name in (("train", "train"), ("val", "validation"), ("test", "test")):
        split = loaded.split(name)
        divided |= {f"x_{short}": _enlarged(split.tensor()), f"y_{short}": split.y.numpy()}
    np.savez(folder / "divided.npz", **divided)
    parts = [[divided[f"{axis}_{short}"] for short in ("train", "val", "test")] for axis in "xy"]
    np.savez(folder / "all.npz", x=np.concatenate(parts[0]), y=np.concatenate(parts[1]))


def _enlarged(x: Tensor) -> Any:
    wide = functional.interpolate(x, size=(32, 32), mode="bilinear").expand(-1, 3, -1, -1)
    return (wide.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--arch", default="resnet20")
    parser.add_argument("--batches", type=lambda text: [int(part) for part in text.split(",")], default=BATCHES)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--training", type=Path, help="print what training.py --json wrote as a table")
    parser.add_argument("--data", type=Path, help="write images there and stop")
    return parser


if __name__ == "__main__":
    main()

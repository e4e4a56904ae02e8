"""What adversarial images take in a store, as a share of their own bytes: python benchmarks/stored_images.py OUT/runs

The second table is of images that are made up: ten steps of a tenth of eps, along signs that change from pixel to pixel
as a momentum attack's do, from the clean image and from a random start. ``--turns 4`` measures what packing costs a
run instead: the processor seconds of one evaluation, images packed and as they are in turns, in one process.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from robustkit.records.cells import Cell
from robustkit.records.packing import pack, unpack
from robustkit.records.samples import Samples
from robustkit.records.store import Store

SHAPE, EPS, STEPS = (3, 32, 32), 8 / 255, 10
STAYS = 0.9  # how likely a sign stays what it was


def stored(runs: Path) -> dict[tuple[str, str], tuple[int, int]]:
    """Return by kind and attack the bytes that its images take, and those that they have."""
    found: dict[tuple[str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for file in sorted(runs.glob("*.npz")):
        cell = json.loads(file.with_suffix(".json").read_text("utf-8")).get("cell", {})
        with np.load(file) as arrays:
            if "packed" in arrays:
                key = (cell["kind"], cell["attack"]["name"])
                packed, whole = found[key]
                found[key] = (packed + arrays["packed"].nbytes, whole + 4 * math.prod(arrays["packed_shape"].tolist()))
    return dict(found)


def made_up(count: int) -> Iterator[tuple[str, float, float, float]]:
    """Yield what images are, their share, and the processor's seconds of packing and of unpacking."""
    rng = np.random.default_rng(0)
    clean = (rng.integers(0, 256, (count, *SHAPE)) / 255).astype(np.float32)
    for name, spread in (("from the clean image", 0.0), ("from a random start", EPS)):
        at = np.clip(clean + rng.uniform(-spread, spread, clean.shape).astype(np.float32), 0, 1)
        sign = rng.choice([-1.0, 1.0], clean.shape).astype(np.float32)
        for _ in range(STEPS):
            at = np.clip(
                np.clip(at + np.float32(EPS / STEPS) * sign, clean - np.float32(EPS), clean + np.float32(EPS)), 0, 1
            )
            sign = np.where(rng.random(clean.shape) < STAYS, sign, -sign)
        started = time.process_time()
        arrays = pack(at, clean, EPS)
        packed = time.process_time()
        assert np.array_equal(unpack(arrays, clean), at)
        yield name, arrays["packed"].nbytes / at.nbytes, packed - started, time.process_time() - packed


def in_turns(turns: int, n: int, dataset: str, folder: str | None) -> Iterator[tuple[str, float, float, int]]:
    """Yield of each run how images were kept, its processor seconds, those of packing, and the bytes of its runs.

    The first run, which trains, is not counted.
    """
    import torch

    from robustkit import api

    torch.set_num_threads(1)
    packed_by, spent = Store._packed, [0.0]

    def timed(store: Store, cell: Cell, samples: Samples) -> dict[str, Any]:
        started = time.thread_time()
        try:
            return packed_by(store, cell, samples)
        finally:
            spent[0] += time.thread_time() - started

    ways = {"packed": timed, "as they are": lambda store, cell, samples: {}}
    order = ["packed", *([*ways, *reversed(ways)] * turns)[: 2 * turns]]
    for at, name in enumerate(order):
        spent[0] = 0.0
        quiet = contextlib.redirect_stdout(None), contextlib.redirect_stderr(None)
        with tempfile.TemporaryDirectory() as out, quiet[0], quiet[1], mock.patch.object(Store, "_packed", ways[name]):
            started = time.process_time()
            api.evaluate(
                dataset=dataset, data_dir=folder, arch="lenet", members=3, epochs=1, n=n, attacks=["pgd", "mim"],
                suites=["attacks", "transfer"], formats=["csv"], out=out,
            )  # fmt: skip
            seconds = time.process_time() - started
            size = sum(file.stat().st_size for file in Path(out, "runs").rglob("*") if file.is_file())
        if at:
            yield name, seconds, spent[0], size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="?", type=Path, help="the folder runs/ of an evaluation")
    parser.add_argument("--count", type=int, default=2000, help="images that are made up")
    parser.add_argument("--turns", type=int, default=0, help="runs of each way; measures the cost of a run alone")
    parser.add_argument("--n", type=int, default=500, help="images of these runs")
    parser.add_argument("--dataset", default="digits", help="of these runs")
    parser.add_argument("--data-dir", help="where it lies")
    args = parser.parse_args()
    if args.turns:
        print(
            "| images | processor seconds of the run | of packing | bytes of runs/ |\n|---|---:|---:|---:|", flush=True
        )
        for name, whole, packing, size in in_turns(args.turns, args.n, args.dataset, args.data_dir):
            print(f"| {name} | {whole:.2f} | {packing:.3f} | {size} |", flush=True)
        return
    if args.runs:
        found = stored(args.runs)
        print("| images of | share of their bytes |\n|---|---:|")
        for (kind, name), (packed, whole) in sorted(found.items()):
            print(f"| {kind}, {name} | {packed / whole:.3f} |")
        packed, whole = map(sum, zip(*found.values(), strict=True))
        print(f"| all | {packed / whole:.3f} |\n")
    print("| made up | share of their bytes | packing, s | unpacking, s |\n|---|---:|---:|---:|")
    for name, share, packing, unpacking in made_up(args.count):
        print(f"| {name} | {share:.3f} | {packing:.2f} | {unpacking:.2f} |")


if __name__ == "__main__":
    main()

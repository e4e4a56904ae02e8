"""What adversarial images take in a store, as a share of their own bytes: python benchmarks/stored_images.py OUT/runs

The second table is of images that are made up: ten steps of a tenth of eps, along signs that change from pixel to pixel
as a momentum attack's do, from the clean image and from a random start.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from robustkit.records.packing import pack, unpack

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="?", type=Path, help="the folder runs/ of an evaluation")
    parser.add_argument("--count", type=int, default=2000, help="images that are made up")
    args = parser.parse_args()
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

"""Write the first images of each class, by name, as the .npz file of docs/ensembles.md.

python benchmarks/few_of_each_class.py --images FOLDER --out cifar.npz      (FOLDER/train/CLASS/*.jpg, and test)
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

PARTS = ("train", "test")


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", required=True, type=Path, help="folder with train/CLASS and test/CLASS")
    parser.add_argument("--train", type=int, default=1000, help="training images of each class")
    parser.add_argument("--test", type=int, default=100, help="test images of each class")
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args(argv)
    classes = sorted(folder.name for folder in (args.images / "train").glob("*/"))
    if not classes:
        print(f"error: '{args.images}' has no folder train with a folder for each class.", file=sys.stderr)
        return 2
    if missing := [name for name in classes if not (args.images / "test" / name).is_dir()]:
        print(f"error: '{args.images / 'test'}' has no folder '{missing[0]}', which train has.", file=sys.stderr)
        return 2
    arrays = {"classes": np.array(classes)}
    draw = np.random.default_rng(0)
    for part in PARTS:
        x, y = _first(args.images / part, classes, getattr(args, part))
        order = draw.permutation(len(x))
        arrays |= {f"x_{part}": x[order], f"y_{part}": y[order]}
    np.savez(args.out, **arrays)
    print(", ".join(f"{name} {array.shape}" for name, array in arrays.items()))
    return 0


def _first(folder: Path, classes: list[str], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first images of each class (N, H, W, 3), 8 bits, and their classes (N,)."""
    files = [(path, label) for label, name in enumerate(classes) for path in sorted((folder / name).iterdir())[:count]]
    images = [np.asarray(Image.open(path).convert("RGB")) for path, _ in files]
    return np.stack(images), np.array([label for _, label in files])


if __name__ == "__main__":
    sys.exit(main())

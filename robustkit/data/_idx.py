"""Images and labels in the IDX files that MNIST came in, plain or gzipped."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robustkit.base.errors import UserError
from robustkit.data import _split
from robustkit.data._facts import EVERYTHING, Source

PARTS = {"train": "train", "test": "t10k"}  # what MNIST's files of a split begin with
BYTES = 8  # the code of uint8, the only type that is read
WANTED = "give IDX files of bytes like t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, plain or .gz"


def source(folder: Path, *, classes: Sequence[str] | None = None) -> Source:
    """Make the source of a folder that holds MNIST's four files, or the two of one split, which then are all samples.

    Images are read at once: they say the shape. ``classes`` None: as many as the highest label says.

    Raises
    ------
    UserError
        If the files are missing, damaged, no IDX files of bytes, or not of one length or image size.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise UserError(f"folder '{folder}' {what}; {WANTED}.")
    found = {part: prefix for part, prefix in PARTS.items() if _file(folder, prefix, "images") is not None}
    if not found:
        raise UserError(f"folder '{folder}' has no IDX images; {WANTED}.")
    pairs = {part: _pair(folder, prefix) for part, prefix in found.items()}
    shapes = {tuple(x.shape[1:]) for x, _ in pairs.values()}
    if len(shapes) > 1:
        raise UserError(
            f"the images in '{folder}' differ in size between train and t10k: {sorted(shapes)}; give all the same."
        )
    highest = max(int(y.max()) for _, y in pairs.values())
    names = tuple(classes or (str(label) for label in range(highest + 1)))
    if highest >= len(names):
        raise UserError(f"label {highest} in '{folder}' is beyond the {len(names)} classes; {WANTED}.")
    parts = {part: _split.at_hand(x, y) for part, (x, y) in pairs.items()}
    if len(parts) == 1:
        parts = {EVERYTHING: next(iter(parts.values()))}
    _, height, width = shapes.pop()
    return _split.source(parts, classes=names, shape=(1, height, width))


def _pair(folder: Path, prefix: str) -> tuple[Tensor, Tensor]:
    """Return the images uint8 (N, 1, H, W) and labels int64 (N,) of one split."""
    files = [_file(folder, prefix, what) for what in ("images", "labels")]
    if files[0] is None or files[1] is None:
        raise UserError(f"'{folder}' has images of {prefix} but no labels beside them; {WANTED}.")
    images, labels = read(files[0]), read(files[1])
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels) or not images.size:
        found = f"images of shape {tuple(images.shape)} and labels of shape {tuple(labels.shape)}"
        raise UserError(f"'{folder}' has {found} for {prefix}; give (N, H, W) and (N,).")
    return torch.from_numpy(images).unsqueeze(1), torch.from_numpy(labels.astype(np.int64))


def _file(folder: Path, prefix: str, what: str) -> Path | None:
    name = f"{prefix}-{what}-idx{3 if what == 'images' else 1}-ubyte"
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def read(file: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return the array of one IDX file of bytes; a :class:`UserError` where it is damaged or of another kind."""
    try:
        content = file.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as failure:
        raise UserError(f"'{file}' cannot be read ({failure}); {WANTED}.") from failure
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != BYTES:
        # Cause: the file is of another format, or of an IDX type that images do not have.
        raise UserError(f"'{file}' is no IDX file of bytes; {WANTED}.")
    start = 4 + 4 * content[3]
    shape = tuple(int(size) for size in np.frombuffer(content[4:start], ">u4"))
    if len(shape) != content[3] or len(content) != start + math.prod(shape):
        # Cause: the download or the copy stopped early.
        raise UserError(f"'{file}' is cut off or damaged: its head promises {shape}; fetch it again.")
    array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = np.empty(shape, np.uint8)
    array.ravel()[:] = np.frombuffer(content, np.uint8, offset=start)
    return array

"""Images of a dataset without its labels; folders and archives need none, and images of a folder may vary in size."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robustkit.base.errors import UserError
from robustkit.data import Dataset
from robustkit.data._images import GREY, open_image
from robustkit.data._samples import Pixels
from robustkit.data.npz import images_of
from robustkit.ood._pixels import Lazy, Shape, adapt, adaptation


@dataclass(frozen=True)
class Read:
    """Adapted images, what they are, and what was done to them, in words."""

    pixels: Pixels
    what: str
    adaptation: str


def read(name: str, shape: Shape, load: Callable[[str], Dataset]) -> Read:
    """Return all images of a dataset that may serve as a set, brought to ``shape``; of a division the test split.

    Raises
    ------
    UserError
        As the dataset's own loader does, but for labels, and for images of a folder that differ in size or mode.
    """
    kind, _, path = name.partition(":")
    if kind == "imagefolder":
        return _folder(Path(path).expanduser(), shape)
    if kind == "npz":
        key, pixels = images_of(Path(path).expanduser())
        return fitted(pixels, shape, f"{key} of the file")
    loaded = load(name)
    split = loaded.everything() if loaded.whole else loaded.split("test")
    every = Lazy(len(split), split.shape, lambda rows: split.batch(rows)[1])
    return fitted(every, shape, f"{loaded.title}, {'all samples' if loaded.whole else 'test split'}")


def fitted(pixels: Pixels, shape: Shape, what: str) -> Read:
    """Return images of one size, brought to ``shape`` a batch at a time."""
    count, c, h, w = pixels.shape
    return Read(Lazy(count, shape, lambda rows: adapt(pixels[rows], shape)), what, adaptation((c, h, w), shape))


def _folder(root: Path, shape: Shape) -> Read:
    from torchvision.datasets.folder import IMG_EXTENSIONS  # seconds that only folders of images need

    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise UserError(f"image folder '{root}' {what}; give a folder of images.")
    part = next((p for p in ("test", "val") if (root / p).is_dir() and (root / "train").is_dir()), "")
    files = sorted(
        file for file in (root / part).rglob("*") if file.suffix.lower() in IMG_EXTENSIONS and file.name[0] != "."
    )
    if not files:
        raise UserError(f"image folder '{root / part}' has no images; add some ({', '.join(IMG_EXTENSIONS)}).")

    def decode(row: int) -> Tensor:
        image = open_image(str(files[row]))
        grey = image.mode in GREY
        array = np.array(image.convert("L" if grey else "RGB"))
        x = torch.from_numpy(array[None] if grey else array.transpose(2, 0, 1).copy())
        return adapt(x[None], shape)[0]

    def make(rows: Tensor) -> Tensor:
        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
            return torch.stack(list(pool.map(decode, rows.tolist())))

    what = f"every image below {part}/" if part else "every image in the folder"
    mode = "grey (BT.601 luma)" if shape[0] == 1 else "RGB"
    size = f"{shape[1]}x{shape[2]} (bilinear, antialiased, centre cut out)"
    return Read(Lazy(len(files), shape, make), what, f"each image to {mode} and {size}")

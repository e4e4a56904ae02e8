"""Pixels of image files, decoded when they are first asked for."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from robustkit.base.errors import UserError

CACHE_BYTES = 2**30  # decoded images of a folder smaller than this stay in memory
DEEP = ("I", "F")  # PIL's modes of more than 8 bits start with these; it would clip them without a word
GREY = ("L", "LA", "1")


class Images:
    """Files that are indexed like a uint8 tensor (N, C, H, W).

    Orientation tags and transparency are ignored, of animations the first frame counts.

    Parameters
    ----------
    files : sequence of str
        The files, in the order of the index.
    channels : int
        1 for grey, 3 for colour.
    size : tuple of int
        ``(H, W)`` that every image has, or is brought to.
    resize : int or None
        Pixels that the shorter side of every image is resized to, with antialiasing, before ``size`` is cut out of the
        centre; None: they must have that size.

    Raises
    ------
    UserError
        On indexing: a file cannot be decoded, has another size (without ``resize``), or colour (where C is 1).
    """

    dtype = torch.uint8

    def __init__(self, files: Sequence[str], *, channels: int, size: tuple[int, int], resize: int | None) -> None:
        self.shape = (len(files), channels, *size)
        self._files, self._resize = files, resize
        self._cache = torch.empty(self.shape, dtype=torch.uint8) if math.prod(self.shape) < CACHE_BYTES else None
        self._have = torch.zeros(len(files), dtype=torch.bool)

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        wanted = torch.unique(rows)
        wanted = wanted[~self._have[wanted]]
        target = torch.empty((len(wanted), *self.shape[1:]), dtype=torch.uint8) if self._cache is None else self._cache
        places = range(len(wanted)) if self._cache is None else wanted.tolist()
        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
            for place, image in zip(places, pool.map(self._decode, wanted.tolist()), strict=True):
                target[place] = image
        if self._cache is None:
            return target[torch.searchsorted(wanted, rows)]
        self._have[wanted] = True
        return target[rows]

    def _decode(self, row: int) -> Tensor:
        file, (_, channels, height, width) = self._files[row], self.shape
        image = open_image(file)
        if channels == 1 and image.mode not in GREY:
            # Cause: grey and coloured files lie together, so that the number of channels is unclear.
            raise UserError(f"image '{file}' is in colour, the first of each class is grey; convert all to one mode.")
        image = image.convert("L" if channels == 1 else "RGB")
        if self._resize is not None:
            from torchvision.transforms import functional  # slow to import, and most data needs none of it

            image = functional.resize(image, self._resize, antialias=True)
            image = functional.center_crop(image, [height, width])
        if image.size != (width, height):
            raise _different(file, image.size, (width, height))
        return torch.from_numpy(np.array(image)).reshape(height, width, channels).permute(2, 0, 1)


def probe(files: Sequence[str], *, one_size: bool) -> tuple[int, tuple[int, int]]:
    """Return the channels of some images (1 if all are grey, else 3), and the ``(H, W)`` of the first.

    A :class:`UserError` names one that cannot be read or, with ``one_size``, differs in size from the first.
    """
    images = [open_image(file) for file in files]
    for file, image in zip(files, images, strict=True):
        if one_size and image.size != images[0].size:
            raise _different(file, image.size, images[0].size)
    width, height = images[0].size
    return (1 if all(image.mode == "L" for image in images) else 3), (height, width)


def open_image(file: str) -> PIL.Image.Image:
    """Return a decoded image of at most 8 bits per channel; a :class:`UserError` names a file that is none."""
    try:
        image: PIL.Image.Image = PIL.Image.open(file)
        image.load()  # reads all, and closes the file
    except Exception as failure:  # PIL's decoders raise nearly anything on damaged files
        reason = " ".join(str(failure).split())[:200]
        # Cause: the file is cut off, is no image, or is of a format that Pillow does not read.
        raise UserError(f"image '{file}' cannot be read ({reason}); repair or remove it.") from failure
    if image.mode.startswith(DEEP):
        # Cause: files of 16 bits would lose half of their values without a word.
        raise UserError(f"image '{file}' has more than 8 bits per channel (mode {image.mode}); convert it to 8.")
    return image


def _different(file: str, size: tuple[int, int], first: tuple[int, int]) -> UserError:
    (w, h), (first_w, first_h) = size, first
    # Cause: a network sees one size; the files have several.
    return UserError(
        f"image '{file}' is {w}x{h} but the first one is {first_w}x{first_h}; bring all to NxN with --image-size N."
    )

"""Labelled images in memory or on disk, read a batch at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from robustkit.base.errors import UserError

CHUNK = 1024  # images per step where all of a split is walked through


class Pixels(Protocol):
    """A uint8 or float32 tensor (N, C, H, W), or what can be indexed like one."""

    @property
    def shape(self) -> Sequence[int]:
        """``(N, C, H, W)``."""

    @property
    def dtype(self) -> torch.dtype:
        """``torch.uint8`` in 0..255, or ``torch.float32`` in [0, 1]."""

    def __getitem__(self, rows: Tensor, /) -> Tensor: ...


class Split:
    """Labelled images, read a batch at a time.

    Parameters
    ----------
    pixels : Pixels
        The images of the source, (S, C, H, W): uint8 in 0..255 or float32 in [0, 1].
    labels : Tensor
        Their labels, int64 (S,).
    ids : Tensor, optional
        Which of them belong to this split, and in which order: int64 (N,), indices into the source. By default all.

    Attributes
    ----------
    y, ids : Tensor
        Labels and original indices of this split, int64 (N,).
    """

    def __init__(self, pixels: Pixels, labels: Tensor, ids: Tensor | None = None) -> None:
        if pixels.dtype not in (torch.uint8, torch.float32) or len(pixels.shape) != 4:
            raise TypeError(f"pixels are {pixels.dtype} of shape {tuple(pixels.shape)}, not uint8 or float32 (N,C,H,W)")
        if labels.dtype != torch.int64 or tuple(labels.shape) != (pixels.shape[0],):
            raise TypeError(f"labels are {labels.dtype} of shape {tuple(labels.shape)}, not int64 ({pixels.shape[0]},)")
        self._pixels, self._labels = pixels, labels
        self.ids = torch.arange(len(labels)) if ids is None else ids
        self.y = labels[self.ids]

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Split(n={len(self)}, shape={self.shape}, dtype={self._pixels.dtype})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C, H, W)`` of one image."""
        _, c, h, w = self._pixels.shape
        return c, h, w

    @property
    def x(self) -> Tensor:
        """All images as stored, (N, C, H, W): uint8 in 0..255 or float32 in [0, 1]. A new tensor at each access."""
        return self._pixels[self.ids]

    def tensor(self) -> Tensor:
        """Return all images, float32 in [0, 1], (N, C, H, W); four times the memory of ``x`` where that is uint8."""
        return in_order(self.x)

    def take(self, n: int) -> Split:
        """Return the first ``n`` samples, or all where there are fewer; shares the pixels of this split."""
        if n < 1:
            raise UserError(f"n {n} is out of range; it must be at least 1.")
        return Split(self._pixels, self._labels, self.ids[:n])

    def select(self, rows: Tensor) -> Split:
        """Return the samples at ``rows``, int64 (n,); shares the pixels of this split."""
        return Split(self._pixels, self._labels, self.ids[rows])

    def batch(self, rows: Tensor | Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``(ids, x, y)`` of some rows of this split.

        Parameters
        ----------
        rows : Tensor or sequence of int
            Positions in this split (not ids), (B,); a boolean mask (N,) selects where it is true.

        Returns
        -------
        tuple of Tensor
            ids int64 (B,), x float32 in [0, 1] contiguous (B, C, H, W), y int64 (B,), all on the CPU.
        """
        at = torch.as_tensor(rows, device="cpu")
        at = at if at.dtype == torch.bool else at.to(torch.int64)  # an empty list reads as float
        ids = self.ids[at]
        return ids, in_order(self._pixels[ids]), self.y[at]

    def sha256(self) -> str:
        """Return the fingerprint of dtype, shape, labels and pixels as stored, in this order; ids do not count."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        head = f"{self._pixels.dtype} {len(self)} {self.shape}"
        digest = hashlib.sha256(head.encode())
        digest.update(self.y.numpy().astype("<i8").tobytes())
        for start in range(0, len(self), CHUNK):
            array = self._pixels[self.ids[start : start + CHUNK]].contiguous().numpy()
            digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
        return digest.hexdigest()


def in_order(x: Tensor) -> Tensor:
    """Return images (B, C, H, W) of 8-bit levels, or in [0, 1], as float32 in [0, 1], row by row in memory.

    Images of one channel that were stored as (B, H, W, 1) are that already, but torch keeps in mind how they were
    stored and convolves them in another way, to other last bits, than the same images after they have travelled.
    """
    x = x.float().div(255) if x.dtype == torch.uint8 else x
    return x.contiguous().view(-1).view(x.shape)

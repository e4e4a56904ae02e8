"""Linear filters along one axis as matrices: blur, box and zoom are then two matrix products, on any device.

A matrix has the boundary rule built in, so that a kernel may be wider than the image.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from robustkit.functional.precision import exactly

Edge = Literal["nearest", "reflect", "mirror"]
NARROW = 16  # how many times a kernel's radius an image is wide where adding shifted copies is faster
LARGE = 9  # sides of a kernel from which on Fourier transforms are faster
Floats = npt.NDArray[np.floating[Any]]


def outside(index: npt.NDArray[np.int64], n: int, edge: Edge) -> npt.NDArray[np.int64]:
    """Return where in 0..n-1 indices beyond the ends are read.

    nearest: a a | a b c | c c; reflect: b a | a b c | c b; mirror: c b | a b c | b a.
    """
    if edge == "nearest" or n == 1:
        return np.clip(index, 0, n - 1)
    if edge == "reflect":
        turned = index % (2 * n)
        return np.where(turned < n, turned, 2 * n - 1 - turned)
    turned = index % (2 * n - 2)
    return np.where(turned < n, turned, 2 * n - 2 - turned)


@functools.lru_cache(maxsize=256)
def gaussian_matrix(n: int, sigma: float, truncate: float, edge: Edge) -> Floats:
    """Return the (n, n) matrix of a Gaussian blur of radius int(truncate sigma + 0.5), as SciPy defines it."""
    radius = int(truncate * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2) if radius else np.ones(1)
    return _banded(n, offsets, weights / weights.sum(), edge)


def _banded(n: int, offsets: npt.NDArray[np.int64], weights: Floats, edge: Edge) -> Floats:
    matrix = np.zeros((n, n))
    rows = np.arange(n)
    for offset, weight in zip(offsets, weights, strict=True):
        np.add.at(matrix, (rows, outside(rows + offset, n, edge)), weight)
    return matrix


@functools.lru_cache(maxsize=256)
def box_matrix(n: int, m: int) -> Floats:
    """Return the (m, n) matrix that resizes n pixels to m with Pillow's box filter: nearest where m > n."""
    matrix, width = np.zeros((m, n)), max(n / m, 1.0)
    for row in range(m):
        centre = (row + 0.5) * n / m
        first = max(int(centre - 0.5 * width + 0.5), 0)
        last = min(int(centre + 0.5 * width + 0.5), n)
        inside = np.arange(first, last)
        at = (inside - centre + 0.5) / width
        weights = ((at > -0.5) & (at <= 0.5)).astype(float)
        matrix[row, inside] = weights / weights.sum()
    return matrix


@functools.lru_cache(maxsize=256)
def spline_zoom_matrix(n: int, factor: float) -> Floats:
    """Return the (n, n) matrix of a cubic B-spline zoom without prefilter, centre n pixels: SciPy's ``zoom``."""
    m = round(n * factor)
    matrix = np.zeros((m, n))
    for row in range(m):
        at = row * (n - 1) / (m - 1)
        first = math.floor(at) - 1
        taps = np.arange(first, first + 4)
        np.add.at(matrix[row], outside(taps, n, "mirror"), bspline(at - taps))
    edge = (m - n) // 2
    return matrix[edge : edge + n]


def bspline(t: Floats) -> Floats:
    """Return the cubic B-spline at distances t."""
    t = np.abs(t)
    inner, outer = 2 / 3 - t**2 + t**3 / 2, np.clip(2 - t, 0, None) ** 3 / 6
    return np.where(t < 1, inner, outer)


@functools.lru_cache(maxsize=64)
def spline_prefilter(n: int) -> Floats:
    """Return the (n, n) matrix that turns samples into cubic B-spline coefficients, mirrored at the ends."""
    return np.linalg.inv(_banded(n, np.array([-1, 0, 1]), np.array([1 / 6, 2 / 3, 1 / 6]), "mirror"))


def apply(x: Tensor, rows: Floats, columns: Floats) -> Tensor:
    """Return rows @ x @ columns^T over the last two axes."""
    return on(rows, x) @ x @ on(columns, x).mT


def on(matrix: Floats, x: Tensor) -> Tensor:
    """Return a matrix as a tensor of the dtype and on the device of x."""
    return torch.as_tensor(matrix, dtype=x.dtype).to(x.device)


def gaussian(x: Tensor, sigma: float, *, truncate: float = 4.0, edge: Edge = "nearest") -> Tensor:
    """Blur the last two axes; sigma in pixels, and one so small that only the centre has weight changes nothing."""
    if int(truncate * sigma + 0.5) == 0:
        return x
    height, width = x.shape[-2:]
    radius = int(truncate * sigma + 0.5)
    if NARROW * radius < min(height, width):
        weights = gaussian_matrix(2 * radius + 1, sigma, truncate, "reflect")[radius]  # of its middle pixel
        return _slid(_slid(x, weights, -2, edge), weights, -1, edge)
    return apply(x, gaussian_matrix(height, sigma, truncate, edge), gaussian_matrix(width, sigma, truncate, edge))


def _slid(x: Tensor, weights: Floats, dim: int, edge: Edge) -> Tensor:
    """Correlate one axis with few symmetric weights, by adding shifted copies."""
    n, radius = x.shape[dim], len(weights) // 2
    index = torch.from_numpy(outside(np.arange(-radius, n + radius), n, edge)).to(x.device)
    wide = x.index_select(dim, index)
    total = x * float(weights[radius])
    for i in range(radius):
        for start in (i, 2 * radius - i):
            total.add_(wide.narrow(dim, start, n), alpha=float(weights[i]))
    return total


def extended(x: Tensor, top: int, bottom: int, left: int, right: int, edge: Edge) -> Tensor:
    """Return x (..., H, W) with rows and columns beyond its ends, read by a boundary rule."""
    height, width = x.shape[-2:]
    rows = outside(np.arange(-top, height + bottom), height, edge)
    columns = outside(np.arange(-left, width + right), width, edge)
    x = x.index_select(-2, torch.from_numpy(rows).to(x.device))
    return x.index_select(-1, torch.from_numpy(columns).to(x.device))


def correlate(x: Tensor, kernel: Floats, edge: Edge = "mirror") -> Tensor:
    """Correlate every channel of x (B, C, H, W) with one symmetric kernel of odd sides, as ``filter2D`` of OpenCV does.

    A large kernel is applied by Fourier transforms.
    """
    kernel = _trimmed(kernel)
    down, across = kernel.shape[0] // 2, kernel.shape[1] // 2
    b, c, h, w = x.shape
    padded = extended(x, down, down, across, across, edge)
    if len(kernel) < LARGE:
        padded = padded.reshape(b * c, 1, h + 2 * down, w + 2 * across)
        with exactly(x.device):  # TF32 would move some pixels by a level
            return functional.conv2d(padded, on(kernel, x)[None, None]).view(b, c, h, w)
    size = [_fast(n) for n in padded.shape[-2:]]
    response = torch.fft.rfft2(on(kernel, x), s=size)
    made: Tensor = torch.fft.irfft2(torch.fft.rfft2(padded, s=size) * response, s=size)
    return made[..., 2 * down : 2 * down + h, 2 * across : 2 * across + w]


@functools.lru_cache(maxsize=64)
def _fast(n: int) -> int:
    """Return the least number from n on that has no prime factor above 5: a transform of another takes longer."""
    while True:
        rest = n
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return n
        n += 1


def _trimmed(kernel: Floats) -> Floats:
    """Return a kernel without the rings around its centre that are zero."""
    while min(kernel.shape) > 2 and not any(edge.any() for edge in _ring(kernel)):
        kernel = kernel[1:-1, 1:-1]
    return kernel


def _ring(kernel: Floats) -> Iterable[Floats]:
    return kernel[0], kernel[-1], kernel[:, 0], kernel[:, -1]


def zoomed(x: Tensor, factor: float) -> Tensor:
    """Enlarge the centre of x (B, C, H, W) linearly and cut out the size of x.

    The centre is ceil(size / factor) pixels, its corners stay corners, and the enlarged size is rounded.
    """
    height, width = x.shape[-2:]
    tall, wide = math.ceil(height / factor), math.ceil(width / factor)
    top, left = (height - tall) // 2, (width - wide) // 2
    size = (round(tall * factor), round(wide * factor))
    centre = x[..., top : top + tall, left : left + wide]
    large = functional.interpolate(centre, size=size, mode="bilinear", align_corners=True)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return large[..., top : top + height, left : left + width]

"""ImageNet-C and CIFAR-C one image at a time, written from the definitions with NumPy, SciPy, OpenCV and Pillow.

``REFERENCES[name](image, constants, draws)``: image (H, W, 3) uint8, draws an iterator over the random numbers in the
order that the package documents; returns (H, W, 3) uint8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import PIL.Image
import scipy.ndimage
import scipy.stats
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv

Draws = Iterator[Any]
REFERENCES: dict[str, Callable[..., np.ndarray]] = {}


def reference(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    REFERENCES[function.__name__] = function
    return function


def levels(x: np.ndarray) -> np.ndarray:
    """Truncate; a level that rounding of doubles left a hair below itself is still that level."""
    return (np.clip(x, 0, 1) * 255 + 1e-5).astype(np.uint8)


def elements(values: np.ndarray) -> np.ndarray:
    """(C, H, W) as drawn, to (H, W, C)."""
    return np.moveaxis(values, 0, -1)


def smooth(x: np.ndarray, sigma: float, **how: Any) -> np.ndarray:
    """Blur rows and columns, not channels."""
    each = (sigma, sigma, 0) if x.ndim == 3 else sigma
    return scipy.ndimage.gaussian_filter(x, each, **{"mode": "nearest", "truncate": 4.0, **how})


def enlarged(x: np.ndarray, factor: float) -> np.ndarray:
    size = len(x)
    part = int(np.ceil(size / factor))
    start = (size - part) // 2
    large = scipy.ndimage.zoom(x[start : start + part, start : start + part], (factor, factor, 1)[: x.ndim], order=1)
    start = (len(large) - size) // 2
    return large[start : start + size, start : start + size]


def moved_along(x: np.ndarray, radius: float, sigma: float, degrees: float) -> np.ndarray:
    """ImageMagick's motion blur of a uint8 image (H, W, ...): one-sided Gaussian, nearest pixels; 16-bit sums, cut."""
    width = 2 * int(np.ceil(radius)) + 1
    kernel = np.array([np.exp(-i * i / (2 * sigma * sigma)) for i in range(width)])
    kernel /= kernel.sum()
    angle = np.deg2rad(degrees)
    rows, columns = np.indices(x.shape[:2])
    total = np.zeros(x.shape)
    for i, weight in enumerate(kernel):
        down, right = int(np.ceil(i * np.sin(angle) - 0.5)), int(np.ceil(i * np.cos(angle) - 0.5))
        at = np.clip(rows + down, 0, x.shape[0] - 1), np.clip(columns + right, 0, x.shape[1] - 1)
        total += weight * x[at]
    return (np.floor(total * 257 + 0.5) // 257).astype(np.uint8)


@reference
def gaussian_noise(image: np.ndarray, c: float, draws: Draws) -> np.ndarray:
    return levels(image / 255 + c * elements(next(draws)))


@reference
def speckle_noise(image: np.ndarray, c: float, draws: Draws) -> np.ndarray:
    x = image / 255
    return levels(x + x * c * elements(next(draws)))


@reference
def shot_noise(image: np.ndarray, c: float, draws: Draws) -> np.ndarray:
    counts = scipy.stats.poisson.ppf(elements(next(draws)), image / 255 * c)
    return levels(np.maximum(counts, 0) / c)  # at u = 0 SciPy says -1


@reference
def impulse_noise(image: np.ndarray, c: float, draws: Draws) -> np.ndarray:
    hit, salt = elements(next(draws)) < c, elements(next(draws)) < 0.5
    out = image.copy()
    out[hit & salt], out[hit & ~salt] = 255, 0
    return out


@reference
def gaussian_blur(image: np.ndarray, c: float, draws: Draws) -> np.ndarray:
    return levels(smooth(image / 255, c))


@reference
def defocus_blur(image: np.ndarray, c: tuple[float, float], draws: Draws) -> np.ndarray:
    radius, sigma = c
    reach, side = (8, 3) if radius <= 8 else (radius, 5)
    down, right = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = (down**2 + right**2 <= radius**2).astype(np.float64)
    disk = cv2.GaussianBlur(disk / disk.sum(), (side, side), sigmaX=sigma)
    return levels(np.dstack([cv2.filter2D(image[..., k] / 255, -1, disk) for k in range(3)]))


@reference
def glass_blur(image: np.ndarray, c: tuple[float, int, int], draws: Draws) -> np.ndarray:
    sigma, reach, iterations = c
    x = levels(smooth(image / 255, sigma))
    for _ in range(iterations):
        right, down = next(draws) - reach, next(draws) - reach
        for h in range(len(x) - reach, reach, -1):
            for w in range(len(x) - reach, reach, -1):
                x[h, w] = x[h + down[h, w], w + right[h, w]]
    return levels(smooth(x / 255, sigma))


@reference
def motion_blur(image: np.ndarray, c: tuple[float, float], draws: Draws) -> np.ndarray:
    return moved_along(image, *c, float(next(draws)))


@reference
def zoom_blur(image: np.ndarray, c: tuple[float, float], draws: Draws) -> np.ndarray:
    x = (image / 255).astype(np.float32)
    factors = np.arange(1, *c)
    return levels((x + sum(enlarged(x, factor) for factor in factors)) / (len(factors) + 1))


@reference
def snow(image: np.ndarray, c: tuple[float, ...], draws: Draws) -> np.ndarray:
    x = (image / 255).astype(np.float32)
    layer = enlarged(c[0] + c[1] * next(draws)[0], c[2])
    layer[layer < c[3]] = 0
    layer = moved_along(levels(layer), c[4], c[5], float(next(draws)))[..., None] / 255
    grey = cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., None]
    x = c[6] * x + (1 - c[6]) * np.maximum(x, 1.5 * grey + 0.5)
    return levels(x + layer + layer[::-1, ::-1])


@reference
def frost(
    image: np.ndarray, c: tuple[float, float], draws: Draws, photographs: Sequence[np.ndarray] = ()
) -> np.ndarray:
    """Of photographs in memory; the published code reads one from its file for every image."""
    which, top, left = (int(next(draws)) for _ in range(3))
    ice, size = photographs[which], len(image)
    if size == 32:
        ice = cv2.resize(ice, (0, 0), fx=0.2, fy=0.2)
    return levels((c[0] * image + c[1] * ice[top : top + size, left : left + size]) / 255)


@reference
def fog(image: np.ndarray, c: tuple[float, float], draws: Draws) -> np.ndarray:
    size = len(image)
    side = 2 ** int(np.ceil(np.log2(size)))
    height, step, wibble = np.zeros((side, side)), side, 100.0
    while step >= 2:
        half = step // 2
        noise = [wibble**2 * next(draws) for _ in range(3)]
        here = np.arange(0, side, step)
        after, middle, before = (here + step) % side, here + half, here - half

        def at(*lines: np.ndarray, height: np.ndarray = height) -> np.ndarray:
            return height[np.ix_(*lines)]

        corners = at(here, here) + at(after, here) + at(here, after) + at(after, after)
        height[np.ix_(middle, middle)] = corners / 4 + noise[0]  # centres of squares, then the edges above and left
        above = at(middle, middle) + at(before, middle) + at(here, here) + at(here, after)
        height[np.ix_(here, middle)] = above / 4 + noise[1]
        left = at(middle, middle) + at(middle, before) + at(here, here) + at(after, here)
        height[np.ix_(middle, here)] = left / 4 + noise[2]
        step, wibble = half, wibble / c[1]
    height = (height - height.min()) / np.ptp(height)
    x = image / 255
    return levels((x + c[0] * height[:size, :size, None]) * x.max() / (x.max() + c[0]))


def hsv(image: np.ndarray, channel: int, factor: float, offset: float) -> np.ndarray:
    x = rgb_to_hsv(image / 255)
    x[..., channel] = np.clip(x[..., channel] * factor + offset, 0, 1)
    return levels(hsv_to_rgb(x))


@reference
def brightness(image: np.ndarray, c: float, draws: Draws) -> np.ndarray:
    return hsv(image, 2, 1, c)


@reference
def saturate(image: np.ndarray, c: tuple[float, float], draws: Draws) -> np.ndarray:
    return hsv(image, 1, *c)


@reference
def contrast(image: np.ndarray, c: float, draws: Draws) -> np.ndarray:
    x = image / 255
    mean = x.mean((0, 1))
    return levels((x - mean) * c + mean)


@reference
def elastic_transform(image: np.ndarray, c: tuple[float, float, float], draws: Draws) -> np.ndarray:
    alpha, sigma, affine = c
    size = len(image)
    x = (image / 255).astype(np.float32)
    middle, third = size // 2, size // 3
    before = np.float32([[middle + third] * 2, [middle + third, middle - third], [middle - third] * 2])
    moves = next(draws)
    assert np.abs(moves).max() <= affine
    matrix = cv2.getAffineTransform(before, (before + moves).astype(np.float32))
    x = warped(x, matrix)
    if alpha:
        right, down = (
            alpha * scipy.ndimage.gaussian_filter(next(draws), sigma, mode="reflect", truncate=3) for _ in range(2)
        )
        rows, columns = np.indices((size, size))
        x = np.dstack([
            scipy.ndimage.map_coordinates(x[..., k], (rows + down, columns + right), order=1, mode="reflect")
            for k in range(3)
        ])  # fmt: skip
    return levels(x)


def warped(x: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """OpenCV's warpAffine before version 5, bilinear and mirrored: places to 1/32 pixel in whole-number arithmetic."""
    inverse = cv2.invertAffineTransform(matrix)
    rows, columns = np.indices(x.shape[:2])
    places = []
    for row in inverse:
        part = np.rint(row[0] * columns * 1024).astype(int) + np.rint((row[1] * rows + row[2]) * 1024).astype(int)
        places.append(((part + 16) >> 5) / 32)
    maps = [np.float32(place) for place in places]
    return cv2.remap(x, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


@reference
def pixelate(image: np.ndarray, c: float, draws: Draws) -> np.ndarray:
    picture, size = PIL.Image.fromarray(image), len(image)
    box = PIL.Image.Resampling.BOX
    return np.asarray(picture.resize((int(size * c), int(size * c)), box).resize((size, size), box))


@reference
def jpeg_compression(image: np.ndarray, c: int, draws: Draws) -> np.ndarray:
    _, file = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, c])
    return cv2.imdecode(file, cv2.IMREAD_COLOR)[..., ::-1]


@reference
def spatter(image: np.ndarray, c: tuple[float, ...], draws: Draws) -> np.ndarray:
    x = (image / 255).astype(np.float32)
    liquid = smooth(c[0] + c[1] * next(draws), c[2])
    liquid[liquid < c[3]] = 0
    if c[5]:
        cover = smooth((liquid > c[3]).astype(np.float32), c[4])[..., None]
        cover[cover < 0.8] = 0
        return levels(x * (1 - cover) + cover * np.array([63, 42, 20]) / 255)
    liquid = (liquid * 255).astype(np.int64).astype(np.uint8)
    distance = cv2.distanceTransform(255 - cv2.Canny(liquid, 50, 150), cv2.DIST_L2, 5)
    distance = cv2.equalizeHist(cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8))
    emboss = cv2.filter2D(distance, cv2.CV_8U, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]))
    water = liquid * cv2.blur(emboss, (3, 3)).astype(np.float32)
    water = c[4] * water / max(water.max(), 1e-12)
    return levels(x + water[..., None] * np.array([175, 238, 238]) / 255)

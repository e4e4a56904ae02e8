"""The C-bar corruptions one image at a time, written from their definitions with NumPy and SciPy."""

from __future__ import annotations

import math

import numpy as np
import scipy.ndimage
from corruption_reference import Draws, levels, reference


def read(x: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Bilinear, black outside, of (H, W, C)."""
    at = np.stack([rows, columns])
    return np.dstack([
        scipy.ndimage.map_coordinates(x[..., k], at, order=1, mode="grid-constant") for k in range(x.shape[2])
    ])  # fmt: skip


def places(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.indices(image.shape[:2])
    return rows.astype(float), columns.astype(float)


@reference
def single_frequency_greyscale(image: np.ndarray, m: float, draws: Draws) -> np.ndarray:
    first, share, change, phase = (float(next(draws)) for _ in range(4))
    pair = (first, abs(first) * share)
    a, b = pair[::-1] if change < 0.5 else pair
    rows, columns = places(image)
    return levels((image + 196 * m / 10 * np.sin(a * columns + b * rows + phase)[..., None]) / 255)


@reference
def cocentric_sine_waves(image: np.ndarray, m: float, draws: Draws) -> np.ndarray:
    size = len(image)
    (x0, y0), frequency, amplitude, ring = next(draws) * size, *(float(next(draws)) for _ in range(3))
    rows, columns = places(image)
    angle = np.arctan2(columns - x0, rows - y0)
    distance = np.sqrt((columns - x0) ** 2 + (rows - y0) ** 2) + amplitude * np.sin(frequency * angle)
    return levels((image + 128 * m / 10 * ((distance % ring) / ring - 0.5)[..., None]) / 255)


@reference
def plasma_noise(image: np.ndarray, m: float, draws: Draws) -> np.ndarray:
    time, rounds, sharpness, share = (float(next(draws)) for _ in range(4))
    size = share * len(image)
    y, x = (line / size for line in places(image))
    i0, i1, i2 = 1.0, 1.0, 1.0
    for _ in range(4 + int(rounds)):
        p, q = np.cos(y * i0 + time / i1) / i2, np.sin(x * i0 + time / i1) / i2
        x, y = x + p - 0.3 * q, y + q + 0.3 * p
        i0, i1, i2 = i0 * 1.93, i1 * 1.15, i2 * (2.25 - sharpness)
    noise = np.dstack([np.sin(x - time), np.sin((x + y + np.sin(time)) / 2), np.sin(y + time)])
    s = 64 * m / 10
    return levels(((1 - s / 255) * image + s * noise) / 255)


@reference
def perlin_noise(image: np.ndarray, m: float, draws: Draws) -> np.ndarray:
    order, steps = np.argsort(next(draws)), next(draws) - 256
    gradients = steps / np.linalg.norm(steps, axis=1, keepdims=True)

    def noise(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        i, j = np.floor(x).astype(int), np.floor(y).astype(int)
        u, v = x - i, y - j
        value = []
        for a in (0, 1):
            for b in (0, 1):
                g = gradients[order[(order[(i + a) % 256] + j + b) % 256]]
                value.append(g[..., 0] * (u - a) + g[..., 1] * (v - b))
        s, t = 3 * u**2 - 2 * u**3, 3 * v**2 - 2 * v**3
        return 1.5 * ((1 - t) * ((1 - s) * value[0] + s * value[2]) + t * ((1 - s) * value[1] + s * value[3]))

    rows, columns = (line / (32 * len(image) / 224) for line in places(image))
    turbulence = sum(np.abs(noise(f * rows, f * columns)) / f for f in (1, 2, 4, 8, 16))
    s = m * 0.05
    return levels((1 - s) * image / 255 + s * np.clip(turbulence / 2 + 0.5, 0, 1)[..., None])


def spectral(power: np.ndarray, phases: np.ndarray) -> np.ndarray:
    phases = np.hstack([phases, np.rot90(phases, 2)])
    half = len(power) // 2
    noise = np.fft.ifft2(np.roll(power * np.exp(1j * phases), (half, half), (0, 1))).real
    return noise / noise.std()


def frequency(image: np.ndarray) -> np.ndarray:
    rows, columns = places(image)
    return np.hypot(rows - len(image) / 2, columns - len(image) / 2)


@reference
def brownish_noise(image: np.ndarray, m: float, draws: Draws) -> np.ndarray:
    noise = np.dstack([spectral(1 / (frequency(image) ** 2 + 1), next(draws)) for _ in range(3)])
    return levels((image + 64 * m / 10 * noise) / 255)


@reference
def blue_noise_sample(image: np.ndarray, m: float, draws: Draws) -> np.ndarray:
    return image * (spectral(frequency(image), next(draws)) > 3 * m / 10 - 2.5)[..., None].astype(np.uint8)


@reference
def checkerboard_cutout(image: np.ndarray, m: float, draws: Draws) -> np.ndarray:
    angle, share, numbers = float(next(draws)), float(next(draws)), next(draws)
    side = max(share * len(image), 1)
    count = int(4 * len(image) // side)
    covered = numbers[:count, :count] < m / 10
    out = image.copy()
    for y in range(len(image)):
        for x in range(len(image)):
            a = (math.cos(angle) * y + math.sin(angle) * x) / side
            b = (-math.sin(angle) * y + math.cos(angle) * x) / side
            if int(a % 2) == int(b % 2) and covered[int(a), int(b)]:
                out[y, x] = 128
    return out


def glow(image: np.ndarray, centre: np.ndarray, lengths: np.ndarray, exponent: float) -> np.ndarray:
    rows, columns = places(image)
    dy, dx = rows - centre[0], columns - centre[1]
    turn = (np.arctan2(dx, dy) + np.pi) / (2 * np.pi) * len(lengths)
    ray = turn.astype(int)
    f = turn - ray
    near, far = lengths[ray % len(lengths)], lengths[(ray + 1) % len(lengths)]
    g = ((near + f * (far - near)) ** 2 / (dx**2 + dy**2 + 1e-4)) ** exponent
    return np.clip((1 - (f - 0.5) ** 2) * g, 0, 1)[..., None]


@reference
def sparkles(image: np.ndarray, m: float, draws: Draws) -> np.ndarray:
    radius = 0.1 * m / 10 * len(image)
    centres = next(draws) * len(image)
    out = image.astype(float)
    for centre in centres:
        count, normal = 50 + int(next(draws)), next(draws)
        lengths = np.maximum(1, radius + 0.25 * radius * normal[:count])
        f = glow(image, centre, lengths, 1.0)
        out = out + f * (255 - out)
    return levels(out / 255)


@reference
def inverse_sparkles(image: np.ndarray, m: float, draws: Draws) -> np.ndarray:
    centre, count, normal = next(draws) * len(image), 50 + int(next(draws)), next(draws)
    radius = 0.25 * len(image)
    f = glow(image, centre, radius + 0.25 * radius * normal[:count], 65 * m / 10 / 50)
    return levels((255 + f * (image - 255.0)) / 255)


@reference
def caustic_refraction(image: np.ndarray, m: float, draws: Draws) -> np.ndarray:
    size = len(image)
    time, period = float(next(draws)), float(next(draws)) * size
    p = np.stack([line / period % 1 * 6.28318530718 - 250 for line in places(image)])
    i, c = p.copy(), np.ones((size, size))
    for n in range(1, 6):
        t = time * (1 - 3.5 / n)
        i = p + np.stack([np.cos(t - i[0]) + np.sin(t + i[1]), np.sin(t - i[1]) + np.cos(t + i[0])])
        c += 1 / np.sqrt((p[0] / (np.sin(i[0] + t) / 0.005)) ** 2 + (p[1] / (np.cos(i[1] + t) / 0.005)) ** 2)
    light = scipy.ndimage.gaussian_filter(np.clip(np.abs(1.17 - (c / 5) ** 1.4) ** 8, 0, 1), 1)
    dark = np.pad(light, 1)
    north, south, west, east = dark[1:-1, :-2], dark[1:-1, 2:], dark[:-2, 1:-1], dark[2:, 1:-1]
    normal = np.dstack([east - west, south - north, np.ones_like(light)])
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    move = np.zeros((size, size, 3))
    tilted = normal[..., 2] < 1 - 1e-3
    n = normal[tilted]
    across = np.cross([0, 0, 1.0], n)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    angle = np.arcsin(np.sin(np.arccos(n[:, 2])) / 4)
    basis = np.stack([n, np.cross(n, across), across], 1)
    inside = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], 1)[..., None]
    move[tilted] = np.round((np.linalg.inv(basis) @ inside)[..., 0] * (0.5 * size * m / 10), 3)
    rows, columns = places(image)
    out = read(image / 255, rows + move[..., 0], columns + move[..., 1])
    return levels(out + ((north - south) + (east - west))[..., None] * (2 * m / 10))


@reference
def pinch_and_twirl(image: np.ndarray, m: float, draws: Draws) -> np.ndarray:
    count = 5 if len(image) == 224 else 3
    tile = len(image) // count
    signs, amount = np.where(next(draws) < 0.5, 1, -1), 0.4 * m / 10 + 0.1
    rows, columns = places(image)
    for i in range(count):
        for j in range(count):
            y0, x0 = j * tile + tile / 2, i * tile + tile / 2
            for y in range(j * tile, (j + 1) * tile):
                for x in range(i * tile, (i + 1) * tile):
                    d = math.hypot(y - y0, x - x0) / (tile / 2)
                    if 0 < d <= 1:
                        t = math.sin(math.pi / 2 * d) ** -amount
                        a = signs[i, j] * math.pi / 2 * m / 10 * (1 - d) ** 2
                        rows[y, x] = y0 + t * ((y - y0) * math.cos(a) - (x - x0) * math.sin(a))
                        columns[y, x] = x0 + t * ((y - y0) * math.sin(a) + (x - x0) * math.cos(a))
    return levels(read(image / 255, rows, columns))


@reference
def ripple(image: np.ndarray, m: float, draws: Draws) -> np.ndarray:
    lengths, phases, amplitude = next(draws) * len(image), next(draws), 0.025 * m / 10 * len(image)
    moved = [
        p + amplitude * np.sin(2 * np.pi * p / w + f) for p, w, f in zip(places(image), lengths, phases, strict=True)
    ]
    return levels(read(image / 255, *moved))


@reference
def water_drop(image: np.ndarray, m: float, draws: Draws) -> np.ndarray:
    (y0, x0), length, phase = next(draws) * len(image), float(next(draws)) * len(image), float(next(draws))
    rows, columns = places(image)
    r = np.hypot(rows - y0, columns - x0)
    amount = 0.25 * m / 10 * np.sin(2 * np.pi * r / length - phase) * length / r
    amount[r > len(image) // 2] = 0
    return levels(read(image / 255, rows + amount * (rows - y0), columns + amount * (columns - x0)))


@reference
def circular_motion_blur(image: np.ndarray, m: float, draws: Draws) -> np.ndarray:
    x, total, weights = (image / 255).astype(np.float32), 0.0, 0.0
    for t in np.linspace(-1, 1, 21):
        weight = np.exp(-2 * t**2)
        total = total + weight * scipy.ndimage.rotate(x, t * 15 * m / 10, reshape=False)
        weights += weight
    return levels(total / weights)


@reference
def transverse_chromatic_abberation(image: np.ndarray, m: float, draws: Draws) -> np.ndarray:
    order, out = np.argsort(next(draws)), image.copy()
    for k in range(3):
        zoomed = scipy.ndimage.zoom(image[..., k], 1 + order[k] * 0.25 * m / 10, prefilter=False)
        edge = (len(zoomed) - len(image)) // 2
        out[..., k] = zoomed[edge : edge + len(image), edge : edge + len(image)]
    return out


@reference
def lines(image: np.ndarray, m: float, draws: Draws) -> np.ndarray:
    """Lines walked pixel by pixel with an error term, as Zingl's antialiased Bresenham does."""
    size = len(image)
    angle, variation = float(next(draws)), float(next(draws))
    out = image.copy()
    for _ in range(int(m / 10 * size)):
        u = next(draws)
        a = angle + 2 * math.pi * variation * (u[2] - 0.5)
        down, right = size * math.cos(a), size * math.sin(a)
        ends = [int(v) for v in (size * u[0] - down, size * u[1] - right, size * u[0] + down, size * u[1] + right)]
        for (y, x), cover in walked(*ends).items():
            if 0 <= y < size and 0 <= x < size:
                out[y, x] = ((1 - cover) * out[y, x] + cover * 128).astype(np.uint8)
    return out


def walked(y: int, x: int, y1: int, x1: int) -> dict[tuple[int, int], float]:
    dy, dx = abs(y1 - y), abs(x1 - x)
    sy, sx = (1 if y < y1 else -1), (1 if x < x1 else -1)
    error, norm = dx - dy, math.hypot(dx, dy)
    found = {}
    while True:
        found[y, x] = 1 - abs(error - dx + dy) / norm
        before, x_before = error, x
        if 2 * before >= -dx:
            if x == x1:
                return found
            if before + dy < norm:
                found[y + sy, x] = 1 - abs(before + dy) / norm
            error -= dy
            x += sx
        if 2 * before <= dy:
            if y == y1:
                return found
            if dx - before < norm:
                found[y, x_before + sx] = 1 - abs(dx - before) / norm
            error += dx
            y += sy

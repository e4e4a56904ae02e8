"""Glass blur."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit.corruptions import corruption
from robustkit.corruptions._common import Random, Table, begin, finish, truncated
from robustkit.corruptions._filters import gaussian
from robustkit.functional.sampling import SampleGenerator, as_generator

# sigma in pixels, furthest offset in pixels, iterations
IMAGENET = ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2))
CIFAR = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))


@corruption(
    "glass_blur",
    family="blur",
    fidelity="exact",
    differentiable=True,
    source="Hendrycks and Dietterich 2019, arXiv:1903.12261",
)
def glass_blur(
    x: Tensor,
    severity: int,
    *,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Look through frosted glass: blur, move pixels about at random, blur again.

    Pixels are visited from the last to the first; each takes what then lies at its own random offset, in [-d, d) both
    ways. (The published code means to swap the two, but both sides of its assignment are views of one array, so that
    only the first of them changes.) What a pixel ends up with is where a chain of pointers ends, and all chains are
    followed at once by doubling. Between the blurs pixels are truncated to 8-bit levels if ``quantize``.

    Draws: per iteration, offsets to the right and down, integers in [0, 2 d), for every pixel.
    """
    (sigma, furthest, iterations), scale = begin(x, severity, table, IMAGENET, CIFAR)
    reach, sigma = max(1, round(furthest * scale)), sigma * scale
    random = as_generator(generator, x)
    made = gaussian(x, sigma)
    made = (truncated(made) if quantize else made).flatten(2)
    for _ in range(iterations):
        source = sources(random, x.shape[2], x.shape[3], reach, x.device)
        made = made.gather(2, source[:, None].expand(-1, x.shape[1], -1))
    return finish(gaussian(made.view_as(x), sigma), x, quantize)


def sources(random: SampleGenerator, height: int, width: int, reach: int, device: torch.device) -> Tensor:
    """Return for each pixel the one whose content it has after one pass, int64 (B, H W)."""
    right, down = (random.integers(2 * reach, (height, width), device) - reach for _ in range(2))
    number = torch.arange(height * width, device=device)
    row, column = number.view(height, width) // width, number.view(height, width) % width
    # Visited are rows and columns reach + 1 .. n - reach; a small image has no such pixel.
    visited = (row > reach) & (row <= height - reach) & (column > reach) & (column <= width - reach)
    visited &= (row < height) & (column < width)
    target = torch.where(visited, number.view(height, width) + down * width + right, number.view(height, width))
    # A target that was visited before has its final content by then; another, or the pixel itself, its first. Pointers
    # number the pixels of the whole batch, and are raised by that number where they end.
    final = (visited.flatten()[target.flatten(1)] & (target.flatten(1) > number)).flatten()
    start = torch.arange(len(target), device=device)[:, None] * (height * width)
    pointer = (target.flatten(1) + start).flatten()
    total = len(pointer)
    pointer = torch.where(final, pointer, pointer + total)
    open_ends = final.nonzero()[:, 0]
    while len(open_ends):
        pointer[open_ends] = pointer[pointer[open_ends]]
        open_ends = open_ends[pointer[open_ends] < total]
    return (pointer - total).view(-1, height * width) - start

"""Elastic transform."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit.corruptions import corruption
from robustkit.corruptions._common import Random, Table, begin, column, finish, grid, table_for
from robustkit.corruptions._filters import gaussian
from robustkit.corruptions._warp import sample
from robustkit.functional.sampling import as_generator

# alpha, sigma, affine
IMAGENET = ((2.0, 0.7, 0.1), (2.0, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02))
CIFAR = ((0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))
SIDE = {"imagenet": 244 / 224, "cifar": 1.0}


@corruption(
    "elastic_transform",
    family="digital",
    fidelity="near",
    differentiable=True,
    source="Hendrycks and Dietterich 2019, arXiv:1903.12261",
)
def elastic_transform(
    x: Tensor,
    severity: int,
    *,
    table: Table = "auto",
    quantize: bool = True,
    generator: Random = None,
) -> Tensor:
    """Stretch the image: a random affine map of three points, then a smooth random displacement of every pixel.

    The points lie a third of the size about the centre and each coordinate moves by up to the affine constant. The
    displacement is uniform noise in [-1, 1), blurred with a Gaussian cut at 3 sigma, times alpha. All constants are
    shares of the size; at 224 px, of 244. Places of the affine map are rounded to 1/32 pixel, as OpenCV's are.

    Draws: six uniform numbers, three points of (right, down); then a number per pixel for the columns and one for the
    rows.
    """
    (alpha, sigma, affine), _ = begin(x, severity, table, IMAGENET, CIFAR)
    height, width = x.shape[2:]
    side = min(height, width) * SIDE[table_for(height, width, table)[0]]
    random = as_generator(generator, x)
    moves = random.uniform((3, 2), -affine * side, affine * side, x.device)
    made = sample(x, *_affine(moves, height, width), "mirror")
    if alpha:
        rows, columns = grid(x)
        right, down = (
            alpha * side * gaussian(random.uniform((height, width), -1.0, 1.0, x.device), sigma * side,
                                    truncate=3.0, edge="reflect")
            for _ in range(2)
        )  # fmt: skip
        made = sample(made, rows + down, columns + right, "reflect")
    return finish(made, x, quantize)


def _affine(moves: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the row and column (B, H, W) that each pixel is read from, to 1/32 pixel."""
    centre = torch.tensor([width // 2, height // 2], dtype=torch.float64, device=moves.device)
    third = min(height, width) // 3
    before = centre + third * torch.tensor([[1, 1], [1, -1], [-1, -1]], dtype=torch.float64, device=moves.device)
    after = before + moves.double()
    # The map that takes each moved point back to where it was: [after, 1] back = before.
    back = torch.linalg.solve(torch.cat([after, torch.ones_like(after[..., :1])], 2), before.expand_as(after))
    across = torch.arange(width, device=moves.device, dtype=torch.float64)
    down = torch.arange(height, device=moves.device, dtype=torch.float64)[:, None]

    def place(k: int) -> Tensor:
        """Round both parts to 1/1024 pixel, and their sum to 1/32, halves up."""
        along = torch.round(column(back[:, 0, k], 2) * across * 1024)
        rest = torch.round((column(back[:, 1, k], 2) * down + column(back[:, 2, k], 2)) * 1024)
        return (torch.floor((along + rest + 16) / 32) / 32).float()

    return place(1), place(0)

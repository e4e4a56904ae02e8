"""Tiles of scikit-learn's two sample photographs."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor

from robustkit.data._samples import Split
from robustkit.ood import ood_set

TILE = 32  # pixels of a side


@ood_set("photo-tiles", distance="far")
def photo_tiles(split: Split) -> Tensor:
    """520 tiles, 32x32, of the two photographs that scikit-learn ships: a temple and its sky, a flower."""
    tiles = []
    for image in load_sample_images().images:
        rows, columns = (size // TILE for size in image.shape[:2])
        cut = image[: rows * TILE, : columns * TILE].reshape(rows, TILE, columns, TILE, 3)
        tiles.append(cut.transpose(0, 2, 4, 1, 3).reshape(-1, 3, TILE, TILE))
    return torch.from_numpy(np.concatenate(tiles))

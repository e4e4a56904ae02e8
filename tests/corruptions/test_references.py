"""Every corruption equals a reference of its own, written from the definition, given the same random numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("cv2")

import corruption_reference_bar  # noqa: F401 - fills REFERENCES
from corruption_constants import C32, C224
from corruption_reference import REFERENCES
from corruption_tape import Tape

from robustkit import corruptions

CIFAR = Path("/work/shared/data/cifar10/test_1017_lossless.npz")
SHARE = 0.999  # of the channel elements that differ by at most one level


def photographs() -> np.ndarray:
    from sklearn.datasets import load_sample_images

    return np.stack([image[100:324, 200:424] for image in load_sample_images().images])


def agreement(name: str, images: np.ndarray, severity: int, constants: object) -> tuple[float, int]:
    """Share of elements within one level, and the largest difference in levels."""
    tape = Tape(severity, len(images))
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    table = "imagenet" if images.shape[1] == 224 else "cifar"
    made = corruptions.get(name)(x, severity, table=table, generator=tape)
    ours = (made * 255).round().permute(0, 2, 3, 1).numpy().astype(int)
    theirs = np.stack([REFERENCES[name](image, constants, tape.of(row)) for row, image in enumerate(images)])
    apart = np.abs(ours - theirs)
    assert np.abs(theirs.astype(int) - images).mean() > 0.01, "the reference does nothing"
    return float((apart <= 1).mean()), int(apart.max())


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", sorted(C224))
def test_at_224_pixels(name: str, severity: int) -> None:
    if name == "frost":
        pytest.skip("needs photographs: test_frost.py")
    image = photographs()[severity % 2 :][:1]
    share, most = agreement(name, image, severity, C224[name][severity - 1])
    assert share >= SHARE, f"{share:.5f} within a level, at most {most}"


@pytest.mark.skipif(not CIFAR.exists(), reason="needs CIFAR-10 images")
@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", sorted(C32))
def test_at_32_pixels(name: str, severity: int) -> None:
    if name == "frost":
        pytest.skip("needs photographs: test_frost.py")
    images = np.load(CIFAR)["x"][10 * severity : 10 * severity + 4]
    share, most = agreement(name, images, severity, C32[name][severity - 1])
    assert share >= SHARE, f"{share:.5f} within a level, at most {most}"

"""Every corruption equals a reference of its own, written from the definition, given the same random numbers."""

from __future__ import annotations

import functools

import numpy as np
import PIL.Image
import pytest
import torch

pytest.importorskip("cv2")

import corruption_reference_bar  # noqa: F401 - fills REFERENCES
from corruption_constants import C32, C224
from corruption_reference import REFERENCES
from corruption_tape import Tape
from corruption_textures import write_textures
from shared_data import LOSSLESS

from robustkit import corruptions

SHARE = 0.999  # of the channel elements that differ by at most one level


@functools.cache
def photographs(size: int = 224) -> np.ndarray:
    from sklearn.datasets import load_sample_images

    crops = [PIL.Image.fromarray(image[100:324, 200:424]) for image in load_sample_images().images]
    return np.stack([np.asarray(crop.resize((size, size))) for crop in crops])


Ice = tuple[str, list[np.ndarray]]  # folder and content of photographs of frost


@pytest.fixture(scope="module")
def ice(tmp_path_factory: pytest.TempPathFactory) -> Ice:
    folder = tmp_path_factory.mktemp("frost")
    return str(folder), write_textures(folder)


def agreement(name: str, images: np.ndarray, severity: int, constants: object, ice: Ice) -> tuple[float, int]:
    """Share of elements within one level, and the largest difference in levels."""
    ours_more, theirs_more = ({"textures": ice[0]}, {"photographs": ice[1]}) if name == "frost" else ({}, {})
    tape = Tape(severity, len(images))
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    table = "imagenet" if images.shape[1] == 224 else "cifar"
    made = corruptions.get(name)(x, severity, table=table, generator=tape, **ours_more)
    ours = (made * 255).round().permute(0, 2, 3, 1).numpy().astype(int)
    reference = functools.partial(REFERENCES[name], **theirs_more)
    theirs = np.stack([reference(image, constants, tape.of(row)) for row, image in enumerate(images)])
    apart = np.abs(ours - theirs)
    assert np.abs(theirs.astype(int) - images).mean() > 0.01, "the reference does nothing"
    return float((apart <= 1).mean()), int(apart.max())


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", sorted(C224))
def test_at_224_pixels(name: str, severity: int, ice: Ice) -> None:
    image = photographs()[severity % 2 :][:1]
    share, most = agreement(name, image, severity, C224[name][severity - 1], ice)
    assert share >= SHARE, f"{share:.5f} within a level, at most {most}"


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", sorted(C32))
def test_at_32_pixels(name: str, severity: int, ice: Ice) -> None:
    images = np.load(LOSSLESS)["x"][10 * severity : 10 * severity + 4] if LOSSLESS.exists() else photographs(32)
    share, most = agreement(name, images, severity, C32[name][severity - 1], ice)
    assert share >= SHARE, f"{share:.5f} within a level, at most {most}"

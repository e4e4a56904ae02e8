"""Corruptions that hang on another library or on photographs: alike in mean, variance, spectrum, and to a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("cv2")

from corruption_constants import C32
from corruption_reference import REFERENCES
from corruption_tape import Tape
from corruption_textures import write_textures
from shared_data import LOSSLESS, PUBLIC

from robustkit import corruptions
from robustkit.auditing import fitting, reading
from robustkit.corruptions import corruption

NAMES = sorted(entry.name for entry in corruption if entry.facts["fidelity"] != "exact")
needs_images = pytest.mark.skipif(not LOSSLESS.exists(), reason="needs CIFAR-10 images")
Random = np.random.Generator
Pixels = np.ndarray[Any, np.dtype[np.uint8]]


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    """A public ResNet-20, 91.6 % right on the clean images."""
    [found] = reading.read(PUBLIC)
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    bare = fitting.fit(found, arch=None, arch_args=None, channels=3, classes=10).network

    class Normalised(torch.nn.Module):
        @torch.no_grad()
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return bare((x - mean) / deviation)

    bare.eval()
    return Normalised()


def drawn(name: str, c: Any, random: Random) -> Iterator[Any]:
    """Draw what one image needs, by the definition and in the order that its reference takes it."""
    if name == "motion_blur":
        yield random.uniform(-45, 45)
    elif name == "snow":
        yield random.standard_normal((1, 32, 32))
        yield random.uniform(-135, -45)
    elif name == "elastic_transform":
        yield random.uniform(-c[2], c[2], (3, 2)).astype(np.float32)
        yield from (random.uniform(-1, 1, (32, 32)) for _ in range(2))
    else:  # frost: of five photographs of 230 to 235 x 240 pixels, a fifth of the size
        which = random.integers(5)
        yield which
        yield random.integers(round((231 + which) * 0.2) - 32)
        yield random.integers(48 - 32)


def made_by_both(name: str, images: Pixels, severity: int, folder: Path, *, same: bool) -> tuple[Pixels, Pixels]:
    """Return what the package and the reference make of images (N, 32, 32, 3), from the same draws or each its own."""
    photographs = write_textures(folder) if name == "frost" else []
    ours_more, theirs_more = ({"textures": str(folder)}, {"photographs": photographs}) if photographs else ({}, {})
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    tape, random, c = Tape(severity, len(x)), np.random.default_rng(severity), C32[name][severity - 1]
    made = corruptions.get(name)(x, severity, table="cifar", generator=tape, **ours_more)
    theirs = [
        REFERENCES[name](image, c, tape.of(row) if same else drawn(name, c, random), **theirs_more)
        for row, image in enumerate(images)
    ]
    return (made * 255).round().byte().permute(0, 2, 3, 1).numpy(), np.stack(theirs)


def spectrum(images: Pixels) -> np.ndarray:
    """Return the mean power in six rings of frequencies, zero left out, each in four directions: (24,)."""
    grey = images.mean(3) / 255
    power = (np.abs(np.fft.fft2(grey - grey.mean((1, 2), keepdims=True))) ** 2).mean(0)
    line = np.fft.fftfreq(32) * 32
    ring = np.hypot(line[:, None], line).astype(int) // 2
    turn = np.round(np.arctan2(line[:, None], line + 0.0) / (np.pi / 4)).astype(int) % 4
    return np.array([power[(ring == i) & (turn == j) & (power > 0)].mean() for i in range(6) for j in range(4)])


@needs_images
@pytest.mark.parametrize("severity", [2, 5])
@pytest.mark.parametrize("name", NAMES)
def test_mean_variance_and_spectrum(name: str, severity: int, tmp_path: Path):
    images = np.load(LOSSLESS)["x"][:400]
    ours, theirs = made_by_both(name, images, severity, tmp_path, same=False)
    assert ours.mean() == pytest.approx(theirs.mean(), abs=1.0)  # of 255; the photographs' own is 120
    assert ours.std() == pytest.approx(theirs.std(), rel=0.01)
    assert spectrum(ours) == pytest.approx(spectrum(theirs), rel=0.12)


@needs_images
@pytest.mark.skipif(not PUBLIC.exists(), reason="needs a trained network")
@pytest.mark.parametrize("name", NAMES)
def test_a_network_is_as_often_right(name: str, network: torch.nn.Module, tmp_path: Path):
    """Within a point, from the same draws: from other draws a thousand images are right 1 to 2 points more or less."""
    file = np.load(LOSSLESS)
    images, y = file["x"][:200], file["y"][:200]
    right = [
        (network(torch.from_numpy(made).permute(0, 3, 1, 2).float() / 255).argmax(1).numpy() == y).mean()
        for made in made_by_both(name, images, 5, tmp_path, same=True)
    ]
    assert right[0] == pytest.approx(right[1], abs=0.01)
    assert 0.3 < right[1] < 0.85  # of 0.92: it is a corruption

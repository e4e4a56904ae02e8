"""Noise of a given spectrum with random phases: blue and brownish noise of the C-bar sets."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustkit.functional.sampling import SampleGenerator


def distance(height: int, width: int, device: torch.device) -> Tensor:
    """Return the distance (H, W) of each frequency from the zero frequency, which lies at (H/2, W/2)."""
    rows = torch.arange(height, device=device, dtype=torch.float32) - height / 2
    columns = torch.arange(width, device=device, dtype=torch.float32) - width / 2
    return torch.hypot(rows[:, None], columns[None, :])


def spectral_noise(generator: SampleGenerator, power: Tensor, layers: int) -> Tensor:
    """Return noise of standard deviation 1 with the amplitudes of ``power`` and uniform phases.

    The phases of the left half are drawn, those of the right half are the left half turned by 180 degrees; where the
    width is odd the column between is drawn for its upper half, turned for its lower, 0 in its middle.

    Parameters
    ----------
    power : Tensor
        Amplitude of each frequency, (H, W), zero frequency in the middle.
    layers : int
        Independent maps per sample, drawn one after the other.

    Returns
    -------
    Tensor
        (B, layers, H, W), float32.
    """
    height, width = power.shape
    maps = []
    for _ in range(layers):
        left = generator.uniform((height, width // 2), 0.0, 2 * math.pi, power.device)
        parts = [left, left.flip(1, 2)]
        if width % 2:
            upper = generator.uniform((height // 2, 1), 0.0, 2 * math.pi, power.device)
            middle = upper.new_zeros(len(upper), height % 2, 1)
            parts.insert(1, torch.cat([upper, middle, upper.flip(1)], 1))
        waves = torch.polar(power.expand(len(left), -1, -1), torch.cat(parts, 2))
        noise = torch.fft.ifft2(waves.roll((height // 2, width // 2), (1, 2))).real
        maps.append(noise / noise.std((1, 2), keepdim=True, unbiased=False))
    return torch.stack(maps, 1)

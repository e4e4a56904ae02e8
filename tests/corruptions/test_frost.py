"""Frost: cut from photographs as the published code does, or grown from noise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from corruption_tape import Tape
from corruption_textures import write_textures

from robustkit import corruptions
from robustkit.base.errors import UserError


def test_the_sixth_photograph_is_never_used(tmp_path: Path):
    images, tape = write_textures(tmp_path), Tape(0, 40)
    made = corruptions.get("frost")(torch.zeros(40, 3, 224, 224), 1, textures=str(tmp_path), generator=tape)
    used = set()
    for row in range(40):
        which, top, left = (int(value) for value in tape.of(row))
        ice = torch.from_numpy(images[which][top : top + 224, left : left + 224]).permute(2, 0, 1)
        assert float((made[row] * 255 - (0.4 * ice).floor()).abs().max()) < 0.01
        used.add(which)
    assert used == {0, 1, 2, 3, 4}


def test_frost_needs_five_photographs_that_are_large_enough(tmp_path: Path):
    frost, x = corruptions.get("frost"), torch.zeros(1, 3, 224, 240)
    with pytest.raises(UserError, match="holds 0 photographs of frost"):
        frost(x, 1, textures=str(tmp_path), generator=0)
    write_textures(tmp_path)
    with pytest.raises(UserError, match="is 240x231 pixels when resized; images of 240x224 need a larger one"):
        frost(x, 1, textures=str(tmp_path), generator=0)


def test_grown_frost_is_bright_rough_and_bluish():
    """By distribution: black images show the frost alone, at full share of severity 3 of 224 pixels, 0.7."""
    ice = corruptions.get("frost")(torch.zeros(8, 3, 224, 224), 3, generator=0, quantize=False) / 0.7
    assert 0.3 < float(ice.mean()) < 0.7
    assert 0.05 < float(ice.std()) < 0.3
    assert float(ice[:, 2].mean()) > float(ice[:, 0].mean()) + 0.02
    steps = (ice[..., 1:] - ice[..., :-1]).abs().mean()
    assert 0.002 < float(steps) < 0.1  # neither flat nor noise
    assert float(torch.corrcoef(ice[:, 0].flatten(1)).fill_diagonal_(0).abs().max()) < 0.8  # each has its own

"""What the corruptions are made of, against SciPy and worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch
from corruption_tape import Tape

from robustkit import corruptions
from robustkit.base.errors import UserError
from robustkit.corruptions import _filters, _motion, _rotation, _warp, glass_blur, jpeg_compression
from robustkit.corruptions._common import table_for, truncated
from robustkit.corruptions._poisson import poisson
from robustkit.functional.sampling import SampleGenerator

IMAGEMAGICK = {
    (6.0, 2.0, -30.0): [
        [71, 127, 146, 154, 136, 100, 137, 157], [84, 143, 166, 177, 78, 131, 171, 109],
        [154, 196, 120, 118, 162, 87, 59, 86], [130, 127, 98, 127, 123, 108, 162, 193],
        [97, 113, 82, 125, 144, 138, 200, 149], [133, 75, 142, 196, 112, 149, 57, 95],
        [83, 169, 137, 147, 114, 137, 127, 168], [99, 112, 99, 112, 101, 133, 130, 175],
    ],
    (10.0, 4.0, -100.0): [
        [0, 30, 87, 146, 205, 132, 75, 126], [6, 39, 98, 159, 173, 148, 94, 101],
        [33, 69, 86, 151, 171, 148, 97, 110], [45, 88, 65, 136, 165, 144, 99, 121],
        [56, 104, 48, 126, 203, 114, 111, 134], [79, 86, 84, 135, 175, 147, 99, 133],
        [79, 93, 100, 132, 136, 169, 79, 126], [71, 95, 108, 129, 102, 192, 64, 162],
    ],
}  # fmt: skip


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return SampleGenerator(seed, torch.arange(shape[0])).uniform(shape[1:])


@pytest.mark.parametrize(("edge", "scipy_name"), [("nearest", "nearest"), ("reflect", "reflect"), ("mirror", "mirror")])
@pytest.mark.parametrize("sigma", [0.3, 1.0, 7.0, 60.0], ids=str)  # the last has a radius of 240 pixels
def test_gaussian_blur_of_any_radius(edge: str, scipy_name: str, sigma: float):
    x = random(1, 2, 40, 27).double()
    ours = _filters.gaussian(x, sigma, edge=edge)[0]
    theirs = scipy.ndimage.gaussian_filter(x[0].numpy(), (0, sigma, sigma), mode=scipy_name)
    assert np.abs(ours.numpy() - theirs).max() < 1e-12


@pytest.mark.parametrize("side", [3, 15])  # by adding copies, and by Fourier transforms
def test_correlation_of_small_and_large_kernels(side: int):
    kernel = np.outer(np.hanning(side + 2)[1:-1], np.hanning(side + 2)[1:-1])
    x = random(2, 3, 21, 30).double()
    ours = _filters.correlate(x, kernel)
    theirs = np.stack([[scipy.ndimage.correlate(c, kernel, mode="mirror") for c in image] for image in x.numpy()])
    assert np.abs(ours.numpy() - theirs).max() < 1e-12


def test_reading_between_pixels_and_beyond_the_ends():
    x = torch.tensor([[[[0.0, 0.4, 1.0]] * 2]])
    columns = torch.tensor([[[-1.0, -0.25, 0.5, 2.5, 3.0]]])
    rows = torch.zeros_like(columns)
    expected = {
        "zero": [0.0, 0.0, 0.2, 0.5, 0.0],
        "mirror": [0.4, 0.1, 0.2, 0.7, 0.4],  # ... 0.4 | 0 0.4 1 | 0.4 ...
        "reflect": [0.0, 0.0, 0.2, 1.0, 1.0],  # ... 0 | 0 0.4 1 | 1 ...
    }
    for beyond, values in expected.items():
        assert _warp.sample(x, rows, columns, beyond)[0, 0, 0].tolist() == pytest.approx(values, abs=1e-6)


@pytest.mark.parametrize("peak", [3.0, 60.0, 500.0])
def test_poisson_counts_are_the_quantiles(peak: float):
    uniform = random(2, 4000, seed=int(peak))
    uniform[0, :3] = torch.tensor([0.0, 1 - 2**-24, 2**-24])
    levels = ((torch.arange(4000) % 256) / 255).expand(2, -1)  # a table ...
    for rate in (levels, levels * 0.999):  # ... and a search
        theirs = scipy.stats.poisson.ppf(uniform.numpy().astype(float), rate.numpy().astype(float) * peak)
        assert (poisson(rate, peak, uniform).numpy() == np.maximum(theirs, 0)).mean() > 0.9995


class Offsets:
    """Hands glass blur the offsets that a test has chosen."""

    def __init__(self, right: list[list[int]], down: list[list[int]], reach: int) -> None:
        self.left = [torch.tensor(right)[None] + reach, torch.tensor(down)[None] + reach]

    def integers(self, high: int, shape: tuple[int, ...], device: object) -> torch.Tensor:
        return self.left.pop(0)


def test_glass_blur_follows_pointers_worked_by_hand():
    """A 5x5 image, reach 1: pixels 2..4 of rows 2..4 are visited, last first."""
    right, down = np.zeros((5, 5), int), np.zeros((5, 5), int)
    right[3, 3], down[3, 3] = -1, 0  # 18 takes 17, not visited yet: its first content
    down[4, 4] = -1  # 24 is visited first and takes 19's first content
    right[2, 4], down[2, 4] = -1, 0  # 14 takes 13, which comes after it
    right[2, 2], down[2, 2] = -1, -1  # 12 takes 6, which is never visited
    right[4, 3], down[4, 3] = -1, -1  # 23 takes 17
    sources = glass_blur.sources(Offsets(right.tolist(), down.tolist(), 1), 5, 5, 1, torch.device("cpu"))[0]
    expected = torch.arange(25)
    for pixel, source in {18: 17, 24: 19, 14: 13, 12: 6, 23: 17}.items():
        expected[pixel] = source
    assert sources.tolist() == expected.tolist()


def test_glass_blur_chains_need_several_doublings():
    """With reach 2 offsets may point onward to pixels that are done; a loop gives the same."""
    tape = Tape(5, 3)
    ours = glass_blur.sources(tape, 24, 19, 2, torch.device("cpu"))
    chains = 0
    for row in range(3):
        right, down = (value - 2 for value in tape.of(row))
        x = np.arange(24 * 19).reshape(24, 19)
        for h in range(22, 2, -1):
            for w in range(17, 2, -1):
                chains += x[h, w] != x[h + down[h, w], w + right[h, w]] and (down[h, w], right[h, w]) > (0, 0)
                x[h, w] = x[h + down[h, w], w + right[h, w]]
        assert ours[row].tolist() == x.flatten().tolist()
    assert chains > 100


def test_motion_blur_of_a_point_worked_by_hand():
    """Radius 1, sigma 1: weights 1, e^-1/2, e^-2 of three pixels to the right of each, or diagonally down."""
    weights = np.exp([0.0, -0.5, -2.0])
    weights /= weights.sum()
    x = torch.zeros(2, 1, 5, 5)
    x[:, 0, 2, 2] = 1
    made = _motion.motion_blurred(x, 1.0, 1.0, torch.tensor([0.0, 45.0]), levels=False)
    assert made[0, 0, 2].tolist() == pytest.approx([weights[2], weights[1], weights[0], 0, 0], abs=1e-6)
    # Two steps of 45 degrees are 1.41 pixels both ways: one pixel, like the first step's 0.71.
    assert float(made[1, 0, 1, 1]) == pytest.approx(weights[1] + weights[2], abs=1e-6)
    assert float(made[1].sum()) == pytest.approx(1.0, abs=1e-6)


def test_motion_blur_is_that_of_imagemagick():
    """What ImageMagick 6.9.11-60 made of an 8x8 grey PNG, by radius, sigma and angle (``MagickMotionBlurImage``)."""
    rows, columns = torch.arange(8)[:, None], torch.arange(8)
    x = ((37 * rows**2 + 11 * rows * columns + 59 * columns) % 256)[None, None] / 255
    for (radius, sigma, angle), expected in IMAGEMAGICK.items():
        made = _motion.motion_blurred(x, radius, sigma, torch.tensor([angle]), levels=True)
        assert (made[0, 0] * 255).round().int().tolist() == expected


@pytest.mark.skipif(not jpeg_compression.TORCHVISION, reason="this torchvision has no codec")
@pytest.mark.parametrize("channels", [1, 3])
def test_both_jpeg_codecs_give_the_same_pixels(channels: int):
    levels = (random(3, channels, 41, 30) * 255).byte()
    ours, theirs = (f(levels, 50) for f in (jpeg_compression.by_torchvision, jpeg_compression.by_pillow))
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, levels)


def test_every_level_survives_truncation():
    levels = torch.arange(256).float() / 255
    assert torch.equal(truncated(levels), levels)
    assert float(truncated(torch.tensor(0.5)) * 255) == pytest.approx(127)
    assert float(truncated(torch.tensor(1.0))) == 1.0


def test_constants_are_scaled_from_the_nearer_table():
    assert table_for(224, 224) == ("imagenet", 1.0)
    assert table_for(32, 32) == ("cifar", 1.0)
    assert table_for(28, 40) == ("cifar", 28 / 32)
    assert table_for(128, 128) == ("imagenet", 128 / 224)
    x = random(1, 1, 64, 64)
    twice = scipy.ndimage.gaussian_filter(x[0, 0].numpy(), 2 * 0.4, mode="nearest")  # 0.4 pixels of 32
    made = corruptions.get("gaussian_blur")(x, 1, table="cifar", quantize=False)
    assert np.abs(made[0, 0].numpy() - twice).max() < 1e-6


def test_a_strength_takes_the_place_of_the_severity():
    x = random(2, 3, 32, 32)
    lines = corruptions.get("lines")
    assert torch.equal(lines(x, 1, strength=1.5, generator=0), lines(x, 3, generator=0))
    assert not torch.equal(lines(x, 1, strength=1.6, generator=0), lines(x, 1, generator=0))
    with pytest.raises(UserError, match="strength 11 is out of range"):
        lines(x, 1, strength=11, generator=0)


def test_grey_images_take_the_grey_limit():
    """Of three equal channels: what does not depend on colour does the same to one."""
    x = (random(2, 1, 32, 32) * 255).round() / 255
    for name in ("brightness", "contrast", "fog", "zoom_blur", "ripple", "motion_blur", "glass_blur", "snow"):
        function = corruptions.get(name)
        one, three = function(x, 3, generator=0), function(x.expand(-1, 3, -1, -1), 3, generator=0)
        assert float((three - one).abs().max()) <= 1.001 / 255, name
    assert torch.equal(corruptions.get("saturate")(x, 5), x)


@pytest.mark.parametrize("shape", [(40, 30), (50, 60)], ids=["one matrix", "pixel by pixel"])
def test_turned_images_are_those_of_scipy(shape: tuple[int, int]):
    x = random(1, 2, *shape).double()
    ours = _rotation.rotated_sum(x, [-17.0, 4.5], [0.25, 2.0])[0].numpy()
    theirs = sum(
        weight * scipy.ndimage.rotate(x[0].numpy(), angle, axes=(1, 2), reshape=False)
        for angle, weight in ((-17.0, 0.25), (4.5, 2.0))
    )
    assert np.abs(ours - theirs).max() < 1e-9

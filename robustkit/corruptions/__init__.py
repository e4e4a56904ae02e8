"""Natural corruptions: one file each, found by the registry; ``get("fog")(x, 3)``.

A corruption is ``function(x, severity, *, table, quantize, generator)``. It takes images x (B, C, H, W), float32 or
float64 in [0, 1], C 1 or 3, at least 8x8 pixels, and a severity from 1 to 5, and returns images of the same shape,
dtype and device; x is not changed. A :class:`UserError` names what is wrong with them. Suites of corruptions are
stated in this module, which never imports torch; running and scoring them is in ``_run`` and ``_results``.

table : {"auto", "imagenet", "cifar"}
    The constants published for 224 px or for 32 px; ``auto``: the nearer. At another size, constants that are lengths
    in pixels are scaled with the shorter side.
quantize : bool
    Truncate to 8-bit levels, between steps as well where the published code does: what the published sets hold. Without
    it a corruption that says ``differentiable`` has the gradient of what it does.
generator : SampleGenerator, torch.Generator, int or None
    Where the random numbers of each sample come from (:func:`robustkit.functional.sampling.as_generator`).
strength : float or None
    Of the corruptions of the C-bar sets, instead of the severity's: their m, in [0, 10].

A registered fact ``fidelity`` says how far a corruption can be the published one, given the same random draws:
``exact``; ``near``, but for rounding inside another library; ``distribution``, alike but not equal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from robustkit.base.errors import unknown
from robustkit.base.registry import Registry

corruption = Registry("corruption", "robustkit.corruptions")
get = corruption.get


@dataclass(frozen=True)
class Member:
    """One corruption of a suite, at its severities, with what the suite fixes."""

    name: str
    params: MappingProxyType[str, Any]
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Suite:
    """Corruptions that are reported together; ``title`` for people, ``metric`` is the number that is quoted."""

    name: str
    title: str
    members: tuple[Member, ...] = field(repr=False)
    metric: str = "mean error"


FIFTEEN = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow",
    "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
IMAGENET_BAR = (
    "blue_noise_sample", "brownish_noise", "caustic_refraction", "checkerboard_cutout", "cocentric_sine_waves",
    "inverse_sparkles", "perlin_noise", "plasma_noise", "single_frequency_greyscale", "sparkles",
)  # fmt: skip
CIFAR_BAR = (
    "blue_noise_sample", "brownish_noise", "checkerboard_cutout", "circular_motion_blur", "inverse_sparkles", "lines",
    "pinch_and_twirl", "ripple", "sparkles", "transverse_chromatic_abberation",
)  # fmt: skip
FIXED = {"plasma_noise": 4.0, "checkerboard_cutout": 4.0, "water_drop": 7.0, "lines": 1.6}


def _members(names: tuple[str, ...], table: str) -> tuple[Member, ...]:
    return tuple(Member(name, MappingProxyType({"table": table})) for name in names)


SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite("imagenet-c", "ImageNet-C", _members(FIFTEEN, "imagenet"), "mCE"),
        Suite("imagenet-c-extra", "ImageNet-C, extra", _members(EXTRA, "imagenet")),
        Suite("cifar-c", "CIFAR-C", _members(FIFTEEN, "cifar")),
        Suite("cifar-c-extra", "CIFAR-C, extra", _members(EXTRA, "cifar")),
        Suite("imagenet-c-bar", "ImageNet-C-bar", _members(IMAGENET_BAR, "imagenet")),
        Suite("cifar-c-bar", "CIFAR-C-bar", _members(CIFAR_BAR, "cifar")),
        Suite(
            "design-diversity",
            "Design diversity (four corruptions at one strength)",
            tuple(Member(name, MappingProxyType({"strength": m}), (1,)) for name, m in FIXED.items()),
        ),
    )
}


def suite(name: str) -> Suite:
    """Return a suite by name; a :class:`UserError` suggests the nearest."""
    if name not in SUITES:
        raise unknown("corruption suite", name, SUITES)
    return SUITES[name]


def default_suite(side: int) -> str:
    """Return the suite whose constants are for images of about so many pixels a side."""
    return "cifar-c" if side <= 84 else "imagenet-c"

"""Errors on corrupted images compared with those of a reference model. Pure NumPy.

Errors are shares in [0, 1], the mean over the severities of one corruption.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

# Errors of AlexNet, mean over severities, Hendrycks and Dietterich 2019; the last four are of the extra corruptions.
ALEXNET = {
    "gaussian_noise": 0.886428, "shot_noise": 0.894468, "impulse_noise": 0.922640, "defocus_blur": 0.819880,
    "glass_blur": 0.826268, "motion_blur": 0.785948, "zoom_blur": 0.798360, "snow": 0.866816, "frost": 0.826572,
    "fog": 0.819324, "brightness": 0.564592, "contrast": 0.853204, "elastic_transform": 0.646056,
    "pixelate": 0.717840, "jpeg_compression": 0.606500, "speckle_noise": 0.845388, "gaussian_blur": 0.787108,
    "spatter": 0.717512, "saturate": 0.658248,
}  # fmt: skip
ALEXNET_CLEAN = 0.435


def mce(errors: Mapping[str, float], reference: Mapping[str, float]) -> float:
    """Return the mean corruption error, 100 x mean over corruptions of E / E_reference; NaN where the latter is 0."""
    return 100 * float(np.mean([_divided(error, reference[name]) for name, error in errors.items()]))


def relative_mce(
    errors: Mapping[str, float], clean: float, reference: Mapping[str, float], reference_clean: float
) -> float:
    """Return 100 x mean over corruptions of (E - clean) / (E_reference - clean_reference); NaN where none rises."""
    ratios = [_divided(error - clean, reference[name] - reference_clean) for name, error in errors.items()]
    return 100 * float(np.mean(ratios))


def _divided(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else float("nan")

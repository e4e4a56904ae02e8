"""The types of ``results.json`` that further suites fill (:mod:`robustkit.suites`). Never imports torch.

Every number is a plain float in [0, 1] unless its field says otherwise.
"""

from __future__ import annotations

from typing import TypedDict


class DetectionResult(TypedDict):
    """One detector of adversarial images on one ensemble and attack."""

    ensemble: str


class OodResult(TypedDict):
    """One score on one out-of-distribution set."""

    ensemble: str


class CalibrationResult(TypedDict):
    """How far the probabilities of one output can be believed."""

    ensemble: str


class DiversityResult(TypedDict):
    """How much the members of one ensemble differ."""

    ensemble: str

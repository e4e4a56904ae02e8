"""The types of ``results.json`` for what is proven of a model: suites certified and smoothing. Never imports torch."""

from __future__ import annotations

from typing import TypedDict


class CertifiedResult(TypedDict):
    """What is proven of the first ``n`` samples at one budget, beside what the attacks left of the same samples.

    ``floor`` is the share (where members are drawn the expected share) that no image within the budget makes wrong, in
    exact arithmetic; ``ceiling`` the worst case of the attacks, None where none ran, and ``unsettled`` the difference.
    ``contradicted`` counts samples that are proven and broken, which are a fault of this program; ``proven`` says that
    floor and ceiling are at most a point apart, and nothing is contradicted. ``alone`` is what is proven of each member
    by itself, ``all_alone`` of how many samples all members are. ``slack`` is what a margin of logits had to exceed.
    """

    ensemble: str
    eps: float
    norm: str
    n: int
    fusion: str
    clean_accuracy: float
    floor: float
    ceiling: float | None
    unsettled: float | None
    contradicted: int
    proven: bool
    alone: list[float]
    all_alone: float
    slack: float
    seconds: float
    notes: list[str]


class SmoothingResult(TypedDict):
    """What holds of the smoothed ensemble, which answers what the ensemble answers most often under Gaussian noise.

    It is another classifier than the ensemble. ``accuracy[i]`` is the share of the first ``n`` samples that it answers
    right on every image at an l2 distance of at most ``eps[i]``, each with a probability of at least 1 - ``failure``;
    eps 0 is its clean accuracy, in which the ``abstained`` samples count as wrong. ``clean_accuracy`` is that of the
    ensemble itself.
    """

    ensemble: str
    sigma: float
    draws: int
    failure: float
    n: int
    clean_accuracy: float
    abstained: int
    eps: list[float]
    accuracy: list[float]
    median_radius: float
    seconds: float


class Proven(TypedDict, total=False):
    """What only an evaluation with these suites has."""

    certified: list[CertifiedResult]
    smoothing: list[SmoothingResult]

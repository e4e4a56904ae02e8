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


class PoolMember(TypedDict):
    """One member of a pool: the ``member``-th of a checkpoint, ``ensemble`` its id; ``parameters`` is their number."""

    id: str
    ensemble: str
    member: int
    arch: str
    parameters: int
    weights_sha256: str


class PoolRule(TypedDict):
    """One fusion rule on one validation set; lists run over the subsets.

    ``gain`` is accuracy - accuracy of the subset's best member, in [-1, 1]; ``gained`` the share of subsets above 0.
    """

    rule: str
    accuracy: list[float]
    gain: list[float]
    mean_gain: float
    gained: float


class PoolCorrelation(TypedDict):
    """How the gain of a rule goes with a measure over the subsets for which it is defined; null where that is not.

    Correlations are in [-1, 1]; ``subsets`` is how many are in them.
    """

    rule: str
    measure: str
    pearson: float | None
    spearman: float | None
    subsets: int


class PoolSet(TypedDict):
    """One validation set: the clean samples, or one corruption at one severity.

    ``n`` samples are scored, ``left_out`` are not because a member's output is not finite on them. ``best_member`` is
    the accuracy of each subset's best member. ``measures`` holds a list over the subsets by measure, in the measure's
    own unit, null where it is not defined; those of attribution are over the first ``attribution_images``.
    """

    name: str
    suite: str | None
    corruption: str | None
    severity: int | None
    n: int
    left_out: int
    attribution_images: int
    member_accuracy: list[float]
    best_member: list[float]
    rules: list[PoolRule]
    measures: dict[str, list[float | None]]
    correlations: list[PoolCorrelation]


class PoolResult(TypedDict):
    """All subsets of ``subset_size`` of a pool's members, by their places in ``members``.

    ``possible`` is how many subsets there are; where ``subsets`` holds fewer, they were drawn at random.
    """

    subset_size: int
    possible: int
    members: list[PoolMember]
    subsets: list[list[int]]
    sets: list[PoolSet]
    notes: list[str]

"""The types of ``results.json`` that further suites fill (:mod:`robustkit.suites`). Never imports torch.

Every number is a plain float in [0, 1] unless its field says otherwise.
"""

from __future__ import annotations

from typing import Literal, TypedDict


class DetectionResult(TypedDict):
    """One detector of adversarial images on one ensemble and attack."""

    ensemble: str


class OodScore(TypedDict):
    """One score on one out-of-distribution set; null where no sample of one kind has a finite output.

    Normal samples are the positive ones of ``aupr``, the set's images those of ``aupr_ood``. ``fpr95`` is the share of
    the set's images taken for normal at the first threshold that keeps 95 % of the normal samples; ``fpr`` and ``tpr``
    are the ROC curve.
    """

    score: str
    auroc: float | None
    ci95: list[float] | None
    aupr: float | None
    aupr_ood: float | None
    fpr95: float | None
    fpr: list[float]
    tpr: list[float]


class OodSetResult(TypedDict):
    """One out-of-distribution set: of ``found`` images ``n`` were scored, after ``duplicates`` were left out.

    ``duplicates`` are drawn images that equal an evaluated one in every 8-bit level; on ``failed`` the model's output
    is not finite. ``adaptation`` says what was done to channels and size.
    """

    name: str
    distance: Literal["near", "far", "unknown"]
    what: str
    adaptation: str
    n: int
    found: int
    duplicates: int
    failed: int
    scores: list[OodScore]


class OodMean(TypedDict):
    """The plain mean of one score over the near or the far sets."""

    distance: Literal["near", "far"]
    score: str
    sets: int
    auroc: float | None
    aupr: float | None
    aupr_ood: float | None
    fpr95: float | None


class OodResult(TypedDict):
    """How well one ensemble's scores tell its ``n`` evaluated samples from images that are none of its classes."""

    ensemble: str
    n: int
    sets: list[OodSetResult]
    means: list[OodMean]


class ReliabilityBin(TypedDict):
    """Samples whose confidence is in (low, high]; ``confidence`` and ``accuracy`` are null where there is none."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


class Calibration(TypedDict):
    """How far probabilities can be believed: ``nll`` in nats, ``brier`` in [0, 2]."""

    nll: float
    ece: float
    brier: float
    bins: list[ReliabilityBin]


class CalibrationResult(TypedDict):
    """One output, ``ensemble`` or ``member-0``, ..., on ``n`` samples, before and after its temperature.

    ``temperature`` was fitted on ``fitted_n`` samples: of the validation split, or one half of the evaluated samples,
    which then is not among the ``n``. It changes no prediction, and so not ``accuracy``. It and ``after`` are null
    where the samples do not determine it: all of them right ask for 0. All but the counts is null where no output is
    finite. ``notes`` is what to know before the numbers are believed.
    """

    ensemble: str
    output: str
    n: int
    fitted_on: Literal["validation", "half"]
    fitted_n: int
    temperature: float | None
    accuracy: float | None
    before: Calibration | None
    after: Calibration | None
    notes: list[str]


class DiversityResult(TypedDict):
    """How much the members of one ensemble differ."""

    ensemble: str

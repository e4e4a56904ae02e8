"""The types of ``results.json`` that further suites (:mod:`robustkit.suites`) fill. Never imports torch.

Those of suites that compare members are in :mod:`robustkit.records.schema_members`. Every number is a plain float in
[0, 1] unless its field says otherwise.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict


class AuditFinding(TypedDict):
    """One thing that the file of a model does not say; ``concern`` is a reason to worry."""

    what: str
    value: str
    how: Literal["detected", "given", "assumed"]
    evidence: str
    concern: bool


class AuditTrial(TypedDict):
    """One way in which a model was run on n clean images; ``log_likelihood`` and ``divergence`` are in nats.

    ``renamed_accuracy`` is that under the best one-to-one renaming of classes, which is never applied. ``divergence``
    is how far the pixels are from those that the first batch norm was trained on, None where that was not asked.
    """

    normalize: str
    how: dict[str, Any]
    n: int
    accuracy: float
    renamed_accuracy: float
    log_likelihood: float | None
    divergence: float | None


class AuditResult(TypedDict):
    """One member that somebody else made: where it comes from, and what was found out about it."""

    ensemble: str
    member: int
    name: str
    path: str
    format: str
    where: str
    sha256: str
    arch: str
    arch_args: dict[str, Any]
    parameters: int
    notes: list[str]
    findings: list[AuditFinding]
    trials: list[AuditTrial]
    renaming: list[int] | None


class DetectionResult(TypedDict):
    """One score as a detector of adversarial images: on one ensemble, against one attack, oblivious of it or not.

    ``attack`` is ``worst`` for the lowest AUROC over the attacks, and ``of`` then names the attack; its curve is there.
    ``labels`` says on which labels the score is computed: on ``true`` ones it cannot be deployed. ``adaptive``: by an
    attacker who knows the score, with ``params`` those of that attack, at the budget of the attack named. ``broken`` is
    the share of the ``n_attacked`` images, which were classified right before, that the attack made wrong, and
    ``evaded`` the share that is wrong and passes for normal where 95 % of the normal images pass. ``auroc`` to
    ``evaded`` are None where nothing was broken. Positive is normal in ``aupr``, ``fpr`` and ``tpr``; ``fpr95`` is the
    share of adversarial images that pass.
    """

    ensemble: str
    attack: str
    of: str
    params: dict[str, Any]
    eps: float
    norm: str
    score: str
    labels: Literal["predicted", "true"]
    adaptive: bool
    broken: float
    n_attacked: int
    n_adversarial: int
    n_normal: int
    auroc: float | None
    ci95: list[float] | None
    aupr: float | None
    aupr_adversarial: float | None
    fpr95: float | None
    evaded: float | None
    fpr: list[float]
    tpr: list[float]


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

"""The types of ``results.json`` that further suites fill (:mod:`robustkit.suites`). Never imports torch.

Every number is a plain float in [0, 1] unless its field says otherwise.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict


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


class OodResult(TypedDict):
    """One score on one out-of-distribution set."""

    ensemble: str


class CalibrationResult(TypedDict):
    """How far the probabilities of one output can be believed."""

    ensemble: str


class DiversityResult(TypedDict):
    """How much the members of one ensemble differ."""

    ensemble: str

"""The types of ``results.json``, schema version 1: what users and reports may rely on. Never imports torch.

Every number is a plain float in [0, 1] unless its field says otherwise. The fields of suites that did not run are
empty lists; those of the further suites are in :mod:`robustkit.records.schema_suites` and
:mod:`robustkit.records.schema_members`, comparisons in :mod:`robustkit.records.schema_comparison`, and those that say
how a run came about in :mod:`robustkit.records.schema_run`.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict, get_args

from robustkit.records.schema_comparison import Compared
from robustkit.records.schema_members import DiversityResult, PoolResult
from robustkit.records.schema_optimality import Optimality
from robustkit.records.schema_proofs import Proven
from robustkit.records.schema_run import EnsembleOrigin, RunOrigin
from robustkit.records.schema_suites import AuditResult, CalibrationResult, DetectionResult, OodResult

SCHEMA_VERSION = 1  # of results.json and of the records in the store

Verdict = Literal["trusted", "unchecked", "suspect", "invalid"]
ORDER: tuple[Verdict, ...] = get_args(Verdict)  # from the best to the worst


class Check(TypedDict):
    """One trust check of one number; ``value`` and ``threshold`` are in the check's own unit.

    ``value`` is None where outputs that are not finite left none; the check has failed then.
    """

    name: str
    passed: bool
    value: float | None
    threshold: float
    advice: str


class Prepared(TypedDict, total=False):
    """What was done to images before anything else; ``image_size`` is "224" or "256:224": shorter side, then centre."""

    image_size: str


class DatasetResult(Prepared):
    """What was evaluated on; ``sha256`` covers images and labels of exactly these n samples."""

    name: str
    split: str
    n: int
    classes: list[str]
    sha256: str


class OfSeed(TypedDict, total=False):
    """Of which training ``seed`` an ensemble of a study over seeds is, and what those of all seeds are called."""

    group: str
    seed: int


class EnsembleResult(EnsembleOrigin, OfSeed):
    """One evaluated ensemble; accuracies are on clean samples. ``arch`` is one name, or "a+b" where members differ."""

    id: str
    defense: str
    params: dict[str, Any]
    arch: str
    members: int
    weights_sha256: str
    accuracy: float
    member_accuracy: list[float]


class Evaluation(TypedDict):
    """One attack at one budget, white-box on the fused output.

    ``mean_l0`` is a share of elements; ``mean_l1``, ``mean_l2``, ``mean_linf`` are in pixel units [0, 1]; all four are
    means over the successful adversarial examples, null where there is none. ``forwards`` and ``backwards`` are means
    per attacked sample; ``seconds`` is the crafting time in seconds. A sample whose attack crashed counts as broken.
    """

    ensemble: str
    attack: str
    backend: str
    params: dict[str, Any]
    eps: float
    norm: str
    targeted: bool
    clean_accuracy: float
    robust_accuracy: float
    ci95: list[float]
    mean_l0: float | None
    mean_l1: float | None
    mean_l2: float | None
    mean_linf: float | None
    forwards: float
    backwards: float
    seconds: float
    verdict: Verdict
    checks: list[Check]


class WorstCase(TypedDict):
    """Mean over samples of the per-sample minimum over every untargeted and targeted run at this eps and norm."""

    ensemble: str
    eps: float
    norm: str
    robust_accuracy: float
    ci95: list[float]
    verdict: Verdict
    checks: list[Check]


class UnionCase(TypedDict):
    """Share of samples that withstand every attack in every norm, each at its budget in ``budgets``.

    ``verdict`` is that of the worst rated of the worst cases behind it.
    """

    ensemble: str
    budgets: dict[str, float]
    robust_accuracy: float
    ci95: list[float]
    verdict: Verdict


class OverSeeds(TypedDict):
    """One accuracy of ensembles that differ in the training's seed alone: mean, and standard deviation (ddof=1).

    ``metric`` is ``accuracy`` (clean; eps 0, no attack), ``robust_accuracy`` (of one attack) or ``worst_case``.
    ``values`` are those of ``ensembles``, trained with ``seeds``. ``ci95`` is the interval over samples of the mean,
    which says nothing of seeds; ``std`` says nothing of samples.
    """

    group: str
    metric: str
    attack: str
    backend: str
    params: dict[str, Any]
    eps: float
    norm: str
    targeted: bool
    ensembles: list[str]
    seeds: list[int]
    values: list[float]
    mean: float
    std: float
    ci95: list[float]


class EscalationStep(TypedDict):
    """One attack that was run because of failing checks, and the worst case after it; ``seconds`` of crafting."""

    attack: str
    params: dict[str, Any]
    because: list[str]
    robust_accuracy: float
    verdict: Verdict
    seconds: float


class Escalation(TypedDict):
    """How the worst case at a budget went down as attacks followed on the advice of its failing checks.

    ``left`` are the checks that still fail at the end; empty where the number has settled.
    """

    ensemble: str
    eps: float
    norm: str
    before: float
    verdict_before: Verdict
    path: list[EscalationStep]
    robust_accuracy: float
    verdict: Verdict
    left: list[str]


class Transfer(TypedDict):
    """Row = what the attack saw, column = what was scored; the last row and column are the fused ensemble.

    A row ``surrogate ID`` is one of ``surrogates``, independent models that the attack saw instead of the ensemble.
    ``metric`` is ``accuracy`` (untargeted, lower = more transfer) or ``success-rate`` (targeted, higher = more
    transfer), over all samples, or ``...-common-correct``: over the samples that every member classifies correctly.
    ``params`` holds eps and norm too.
    """

    ensemble: str
    attack: str
    params: dict[str, Any]
    targeted: bool
    metric: str
    sources: list[str]
    targets: list[str]
    matrix: list[list[float]]


class MinimumNorm(TypedDict):
    """One minimum-norm attack: ``accuracy[i]`` is the share of samples that need more than ``eps[i]`` to break.

    ``eps`` and ``median`` are in the unit of the norm (l0: changed values; l1, l2, linf: pixel units); the median is
    over all samples, null where at most half of them were broken. ``found`` is the share that was broken at all.
    """

    ensemble: str
    attack: str
    params: dict[str, Any]
    norm: str
    targeted: bool
    clean_accuracy: float
    found: float
    median: float | None
    eps: list[float]
    accuracy: list[float]


class CorruptionLevel(TypedDict):
    """One corruption at one severity; ``strength`` is that of a C-bar corruption where its suite fixes one, in [0, 10].

    ``nll`` is in nats, ``brier`` in [0, 2], of the fused output; null where the model's output is not finite.
    """

    corruption: str
    severity: int
    strength: float | None
    accuracy: float
    member_accuracy: list[float]
    nll: float | None
    ece: float | None
    brier: float | None


class CorruptionResult(TypedDict):
    """One ensemble on one suite of natural corruptions; means are over all corruptions and severities.

    ``mce`` and ``relative_mce`` are in percent of the errors of ``reference`` ("alexnet" or an ensemble's id), null
    where there is none. ``missing`` names what a published set lacks, ``notes`` what to know before comparing numbers.
    """

    ensemble: str
    suite: str
    source: Literal["generated", "published"]
    missing: list[str]
    notes: list[str]
    clean_accuracy: float
    accuracy: float
    accuracy_drop: float
    clean_member_accuracy: list[float]
    member_accuracy: list[float]
    mce: float | None
    relative_mce: float | None
    reference: str | None
    nll: float | None
    ece: float | None
    brier: float | None
    levels: list[CorruptionLevel]


class Seeded(TypedDict, total=False):
    """What only a study over seeds, or with several attacks in a norm, has."""

    over_seeds: list[OverSeeds]
    optimality: list[Optimality]


class SeveralNorms(TypedDict, total=False):
    """What only a study of several norms has."""

    union: list[UnionCase]


class Numbers(SeveralNorms):
    """What gates, comparisons and leaderboards read of ``results.json``: in the files of every version so far."""

    schema_version: int
    robustkit_version: str
    environment: dict[str, Any]
    seed: int
    dataset: DatasetResult
    ensembles: list[EnsembleResult]
    evaluations: list[Evaluation]
    worst_case: list[WorstCase]


class Results(RunOrigin, Seeded, Proven, Compared, Numbers):
    """The whole of ``results.json``."""

    surrogates: list[EnsembleResult]
    transfer: list[Transfer]
    minimum_norm: list[MinimumNorm]
    escalation: list[Escalation]
    audit: list[AuditResult]
    detection: list[DetectionResult]
    ood: list[OodResult]
    calibration: list[CalibrationResult]
    corruptions: list[CorruptionResult]
    diversity: list[DiversityResult]
    pools: list[PoolResult]

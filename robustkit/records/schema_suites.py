"""The types of ``results.json`` that further suites fill (:mod:`robustkit.suites`). Never imports torch.

Every number is a plain float in [0, 1] unless its field says otherwise.
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
    log_likelihood: float
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


class PairMeasure(TypedDict):
    """One pairwise measure: ``matrix`` (M, M), whose diagonal is a member beside itself; None where it is 0 / 0."""

    name: str
    mean: float | None
    matrix: list[list[float | None]]


class CosineDistribution(TypedDict):
    """Cosines between the members' ``maps``, ``gradcam`` or ``saliency``, over samples and pairs.

    ``counts`` are those of the bins between ``edges``. ``matrix`` (M, M) holds means over samples. ``undefined`` is the
    share of cosines that are left out because a map is zero everywhere.
    """

    maps: str
    mean: float | None
    median: float | None
    undefined: float
    edges: list[float]
    counts: list[int]
    matrix: list[list[float | None]]


class AttributionDiversity(TypedDict):
    """How much the members' maps of the predicted class differ, on the first ``samples`` images.

    Variances are means over samples of the sum over channels and pixels of the members' variance, in squared units of
    the logit; ``normalised``: of maps of unit norm, in [0, 1]. ``steps`` are those of integrated gradients.
    """

    samples: int
    steps: int
    cosines: list[CosineDistribution]
    saliency_variance: float | None
    saliency_variance_normalised: float | None
    integrated_variance: float | None
    integrated_variance_normalised: float | None


class LayerSimilarity(TypedDict):
    """Linear CKA of the layers of two ``members``: a row for each of ``layers[0]``, a column for each of ``layers[1]``.

    ``same_layer`` is the mean over layers of one name where both have the same names; ``last`` is of the last layers.
    """

    members: list[int]
    layers: list[list[str]]
    matrix: list[list[float | None]]
    same_layer: float | None
    last: float | None


class DiversityResult(TypedDict):
    """How much the members of one ensemble differ; None where a measure is not defined, and ``notes`` say why.

    ``samples`` are those that the answers are compared on, ``right`` and ``wrong`` how many of them the ensemble gets
    right and wrong. Mutual information and log ED are in nats.
    """

    ensemble: str
    members: int
    samples: int
    right: int
    wrong: int
    accuracy: float | None
    member_accuracy: list[float]
    pairwise: list[PairMeasure]
    mutual_information: float | None
    equitability_right: float | None
    equitability_wrong: float | None
    ed: float | None
    log_ed: float | None
    attributions: AttributionDiversity | None
    layers: list[LayerSimilarity]
    layer_samples: int
    notes: list[str]


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

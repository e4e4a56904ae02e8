"""The types of ``results.json`` that compare members: those of one ensemble, those of a pool. Never imports torch.

Every number is a plain float in [0, 1] unless its field says otherwise.
"""

from __future__ import annotations

from typing import TypedDict


class PairMeasure(TypedDict):
    """One pairwise measure: ``matrix`` (M, M), whose diagonal is a member beside itself; None where it is not finite.

    ``mean`` is over pairs; of ``error-ratio`` it is the ratio of the sums over pairs. ``infinite`` are the pairs [i, j]
    that leave a ratio without a denominator; where there are any and ``mean`` is None, it is infinite. ``undefined``
    is how many pairs leave 0 / 0 and do not count.
    """

    name: str
    mean: float | None
    matrix: list[list[float | None]]
    infinite: list[list[int]]
    undefined: int


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

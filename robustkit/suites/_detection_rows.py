"""Records of detection: scores of stored logits, normal against adversarial. NumPy only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from robustkit.evaluation.cell import broken
from robustkit.metrics.diversity import log_ensemble_diversity
from robustkit.metrics.roc import roc
from robustkit.metrics.scores import scores
from robustkit.records.cells import EnsembleRecord, Run
from robustkit.records.samples import Samples
from robustkit.records.schema_suites import DetectionResult
from robustkit.suites._ladder import Attacked

LIMIT = 1000  # normal and adversarial images at most
DIGITS = 5  # of a stored curve: its points are shares of at most 1,000 images
WORST = "worst"
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating[Any]]
OfSamples = Callable[[Samples], Floats]
Labels = Literal["predicted", "true"]


def rows(
    record: EnsembleRecord, made: Attacked, clean: Samples, informed: Mapping[str, Run]
) -> Iterator[DetectionResult]:
    """Yield every score between the unperturbed images and those of one attack.

    Parameters
    ----------
    informed : mapping of str to Run
        By score, the attack that knows it, on the first of the images. This attacker submits of each image whichever
        of the two attacks' misclassified images looks more normal.
    """
    normal = clean.whole().select(slice(0, LIMIT))
    own = made.adversarial
    for name, labels, score in _scores(record.members):
        values = _of(score, made.samples, own)
        row = partial(_row, record, made, name, labels, score(normal))
        yield row(values, own, made.right, adaptive=False, params=made.cell.params)
        if name in informed and labels == "predicted":
            run = informed[name]
            n = len(run.samples.y)
            right = made.right[:n]
            other = broken(run.samples, targeted=False) & right
            better = np.fmax(values[:n], _of(score, run.samples, other))
            yield row(better, own[:n] | other, right, adaptive=True, params=run.cell.params)


def worst(every: Iterable[DetectionResult]) -> Iterator[DetectionResult]:
    """Yield for each score the row of the attack that it detects worst; its curve is with that attack."""
    groups: dict[tuple[str, str, bool], list[DetectionResult]] = {}
    for row in every:
        groups.setdefault((row["score"], row["labels"], row["adaptive"]), []).append(row)
    for group in groups.values():
        lowest = min(group, key=lambda row: 2.0 if row["auroc"] is None else row["auroc"])
        changed: dict[str, Any] = {"attack": WORST, "of": lowest["attack"], "fpr": [], "tpr": []}
        yield {**lowest, **changed}  # type: ignore[typeddict-item]


def _scores(members: int) -> Iterator[tuple[str, Labels, OfSamples]]:
    """Yield each score by name, the labels that it is given, and itself."""
    for name, score in scores(members).items():
        yield name, "predicted", lambda samples, score=score: score(samples.member_logits, samples.fused)  # type: ignore[misc]
        if name == "log-ed":
            yield name, "true", lambda samples: log_ensemble_diversity(samples.member_logits, samples.y)


def _of(score: OfSamples, samples: Samples, chosen: Bools) -> Floats:
    """Return the score of the chosen samples, NaN for the others, which may have no finite logits."""
    values = np.full(len(chosen), np.nan)
    if chosen.any():
        values[chosen] = score(samples.select(np.flatnonzero(chosen)))
    return values


def _row(
    record: EnsembleRecord, made: Attacked, name: str, labels: Labels, normal: Floats, values: Floats,
    adversarial: Bools, right: Bools, *, adaptive: bool, params: Mapping[str, Any],
) -> DetectionResult:  # fmt: skip
    """Return what a score is worth, from its values on normal images (N,) and on all that were attacked (N',)."""
    normal = normal[np.isfinite(normal)]
    others = values[adversarial & np.isfinite(values)][:LIMIT]
    share = float(adversarial.sum() / max(1, right.sum()))
    row = DetectionResult(
        ensemble=record.id, attack=made.cell.name, of="", params=dict(params), eps=float(made.cell.eps or 0.0),
        norm=made.cell.norm, score=name, labels=labels, adaptive=adaptive, broken=share, n_attacked=int(right.sum()),
        n_adversarial=len(others), n_normal=len(normal), auroc=None, ci95=None, aupr=None, aupr_adversarial=None,
        fpr95=None, evaded=None, fpr=[], tpr=[],
    )  # fmt: skip
    if len(normal) and len(others):
        found = roc(normal, others)
        row["auroc"], row["ci95"], row["fpr95"] = found.auroc, list(found.ci95), found.fpr95
        row["aupr"], row["aupr_adversarial"] = found.aupr, found.aupr_other
        row["evaded"] = share * found.fpr95
        row["fpr"], row["tpr"] = _rounded(found.fpr), _rounded(found.tpr)
    return row


def _rounded(values: Floats) -> list[float]:
    return [round(float(value), DIGITS) for value in values]

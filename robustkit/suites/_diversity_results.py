"""Clean logits and the suite's facts to a record of ``results.json``. Never imports torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from robustkit.base.errors import RunError
from robustkit.functional.stats import finite
from robustkit.metrics import diversity
from robustkit.metrics.cka import cka
from robustkit.metrics.pairwise import PAIRWISE, of_all_pairs, pairs, symmetric
from robustkit.records.cells import Cell, EnsembleRecord, Facts, Spec
from robustkit.records.samples import Samples
from robustkit.records.schema_members import (
    AttributionDiversity,
    CosineDistribution,
    DiversityResult,
    LayerSimilarity,
    PairMeasure,
)
from robustkit.records.store import Store
from robustkit.study.plan import Study

PARTS = ("attributions", "layers")
BINS = 50  # of a distribution of cosines, over [-1, 1]
ALONE = "One member only: there is nothing to compare, but the gallery shows where it looks."

Floats = npt.NDArray[np.floating[Any]]


def cells_of(study: Study, record: EnsembleRecord) -> list[Cell]:
    """Return the suite's cells of one ensemble; a single member has no layers to compare."""
    return [cell_of(study, record, part) for part in PARTS if part == "attributions" or record.members > 1]


def cell_of(study: Study, record: EnsembleRecord, part: str) -> Cell:
    """Return the cell of one part of the suite on one ensemble."""
    return Cell(
        kind="probe",
        ensemble=record.key,
        data=study.dataset.sha256,
        attack=Spec("diversity", part, study.suite_requests["diversity"][part]),
        seed=study.seed,
        version=study.version,
    )


def result(study: Study, record: EnsembleRecord, store: Store) -> DiversityResult:
    """Return the record of one ensemble; a :class:`RunError` if the store lacks a cell."""
    samples = store.get(study.clean(record)).samples
    lost = int(samples.failed.sum())
    notes = [f"{lost} samples are left out: the members' outputs on them are not finite."] if lost else []
    found = _answers(samples.whole(), record, notes)
    if record.members == 1:
        notes.insert(0, ALONE)
    else:
        found["attributions"] = _attributions(_facts(study, record, store, "attributions"), record.members, notes)
        found["layers"] = _layers(_facts(study, record, store, "layers"), record.members, notes)
        found["layer_samples"] = int(study.suite_requests["diversity"]["layers"]["samples"])
    return found


def _answers(samples: Samples, record: EnsembleRecord, notes: list[str]) -> DiversityResult:
    """Return what the clean logits say; the rest is empty."""
    labels, y, classes = samples.member_prediction, samples.y, samples.fused.shape[1]
    right = samples.prediction == y
    found = DiversityResult(
        ensemble=record.id, members=record.members, samples=len(y), right=int(right.sum()), wrong=int((~right).sum()),
        accuracy=finite(_mean(right)), member_accuracy=[_mean(own == y) for own in labels] if len(y) else [],
        pairwise=[], mutual_information=None, equitability_right=None, equitability_wrong=None, ed=None, log_ed=None,
        attributions=None, layers=[], layer_samples=0, notes=notes,
    )  # fmt: skip
    if record.members == 1 or not len(y):
        return found
    found["pairwise"] = [_measure(name, labels, y) for name in PAIRWISE]
    probabilities = softmax(samples.member_logits.astype(np.float64), 2)
    found["mutual_information"] = _mean(diversity.mutual_information(probabilities))
    votes = diversity.vote_equitability(labels, classes)
    found["equitability_right"], found["equitability_wrong"] = (finite(_mean(votes[rows])) for rows in (right, ~right))
    found["ed"] = _mean(diversity.ensemble_diversity(samples.member_logits, y))
    found["log_ed"] = _mean(diversity.log_ensemble_diversity(samples.member_logits, y))
    if record.members > classes - 1:
        notes.append(f"ED is 0 by definition: {record.members} members, {classes - 1} other classes.")
    notes += _pairs_left_out(found["pairwise"], record.members)
    return found


def _attributions(facts: Facts, members: int, notes: list[str]) -> AttributionDiversity | None:
    arrays, params = facts.arrays, facts.cell.params
    if "error" in arrays:
        notes.append(f"No attributions: {arrays['error']}.")
        return None
    cosines = []
    if "gradcam-cosine" in arrays:
        cosines.append(_distribution("gradcam", arrays["gradcam-cosine"], members))
    else:
        notes.append(_without_maps(arrays["map-sizes"]))
    cosines.append(_distribution("saliency", arrays["saliency-cosine"], members))
    return AttributionDiversity(
        samples=len(arrays["label"]), steps=int(params["steps"]), cosines=cosines,
        saliency_variance=_mean_of_finite(arrays["saliency-variance"]),
        saliency_variance_normalised=_mean_of_finite(arrays["saliency-variance-normalised"]),
        integrated_variance=_mean_of_finite(arrays["integrated-variance"]),
        integrated_variance_normalised=_mean_of_finite(arrays["integrated-variance-normalised"]),
    )  # fmt: skip


def _without_maps(sizes: npt.NDArray[Any]) -> str:
    """Return why there are no cosines between GradCAM maps."""
    lacking = [str(at) for at, (height, _) in enumerate(sizes.tolist()) if height == 0]
    if lacking:
        return f"No GradCAM cosines: member {', '.join(lacking)} has no convolutional maps of at least 3x3 pixels."
    found = dict.fromkeys(f"{h}x{w}" for h, w in sizes.tolist())
    return f"No GradCAM cosines: the members' maps have different sizes ({', '.join(found)})."


def _distribution(maps: str, cosines: Floats, members: int) -> CosineDistribution:
    """Return the distribution of cosines (N, P) over samples and pairs."""
    defined = cosines[np.isfinite(cosines)]
    counts, edges = np.histogram(defined, BINS, (-1.0, 1.0))
    means = np.array([_mean(column[np.isfinite(column)]) for column in cosines.T])
    return CosineDistribution(
        maps=maps, mean=finite(_mean(defined)), median=float(np.median(defined)) if len(defined) else None,
        undefined=1 - len(defined) / max(1, cosines.size), edges=[float(e) for e in edges],
        counts=[int(c) for c in counts], matrix=_plain(symmetric(means, members, 1.0)),
    )  # fmt: skip


def _layers(facts: Facts, members: int, notes: list[str]) -> list[LayerSimilarity]:
    """Return the similarity of the layers of each pair of members."""
    names = [[str(name) for name in facts.arrays[f"layers-{at}"]] for at in range(members)]
    if not facts.arrays["hsic"].any() or not all(names):
        notes.append("No CKA: it needs four images, and convolutions or linear layers in every member.")
        return []
    whole = cka(facts.arrays["hsic"])
    starts = np.cumsum([0, *map(len, names)])
    found = []
    for i, j in pairs(members):
        matrix = whole[starts[i] : starts[i + 1], starts[j] : starts[j + 1]]
        same = _mean(np.diag(matrix)[np.isfinite(np.diag(matrix))]) if names[i] == names[j] else float("nan")
        found.append(
            LayerSimilarity(
                members=[i, j], layers=[names[i], names[j]], matrix=_plain(matrix), same_layer=finite(same),
                last=finite(matrix[-1, -1]),
            )
        )  # fmt: skip
    return found


def _facts(study: Study, record: EnsembleRecord, store: Store, part: str) -> Facts:
    facts = store.load_facts(cell_of(study, record, part))
    if facts is None:
        raise RunError(f"the store '{store.folder}' lacks the {part} of {record.id}; run the same command again.")
    return facts


def _measure(name: str, labels: npt.NDArray[np.int64], y: npt.NDArray[np.int64]) -> PairMeasure:
    matrix = PAIRWISE[name](labels, y)
    return PairMeasure(
        name=name, mean=finite(of_all_pairs(name, labels, y)), matrix=_plain(matrix),
        infinite=[[i, j] for i, j in pairs(len(matrix)) if np.isinf(matrix[i, j])],
        undefined=sum(bool(np.isnan(matrix[i, j])) for i, j in pairs(len(matrix))),
    )  # fmt: skip


def _pairs_left_out(found: list[PairMeasure], members: int) -> list[str]:
    """Return what a reader should know of pairs without a number."""
    notes = []
    undefined = [m["name"] for m in found if m["mean"] is None and not m["infinite"]]
    if undefined:
        notes.append(f"Too few errors for: {', '.join(undefined)}.")
    several = len(pairs(members))
    partly = [f"{m['name']} {m['undefined']}" for m in found if m["undefined"] and m["name"] not in undefined]
    if partly:
        notes.append(f"Of {several} pairs, so many do not count, because they leave 0 / 0: {', '.join(partly)}.")
    for m in found:
        if m["infinite"]:
            alone = "and neither does any other, so that the ratio of all is infinite"
            counted = "and count in the ratio of the sums"
            how = alone if m["mean"] is None else counted
            notes.append(f"{len(m['infinite'])} of {several} pairs have different errors and no same one, {how}.")
    return notes


def _plain(matrix: Floats) -> list[list[float | None]]:
    return [[finite(value) for value in row] for row in matrix]


def _mean(values: npt.NDArray[Any]) -> float:
    return float(np.mean(values, dtype=np.float64)) if len(values) else float("nan")


def _mean_of_finite(values: npt.NDArray[Any]) -> float | None:
    return finite(_mean(values[np.isfinite(values)]))

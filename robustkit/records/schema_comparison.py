"""The types of ``results.json`` that compare ensembles on the same samples. Never imports torch."""

from __future__ import annotations

from typing import Any, Literal, TypedDict


class Comparison(TypedDict):
    """One number of an ensemble beside that of the ``reference``, on the same n samples.

    ``number`` says which: ``clean``, ``worst_case``, ``common`` (the worst case over those attacks that both met, where
    they met others as well; of ``robustkit compare`` alone), ``union`` (who withstands all norms), or ``attack``, whose
    ``attack``, ``backend``, ``params`` and ``targeted`` are those of both; ``eps`` is None and ``norm`` empty of clean
    accuracies; of a union ``eps`` is None and ``norm`` says its budgets in words. ``difference`` is
    ensemble minus reference, ``ci95`` its paired interval (Tango 1998). ``only_ensemble`` and ``only_reference`` count
    samples that one of the two alone gets right; None where answers are drawn. ``p`` is McNemar's, exact and two-sided
    (where answers are drawn, the paired t test's), and ``p_holm`` the same with all of its table in mind: clean
    accuracies, worst cases and unions are one table, attacks another. ``needed`` is how many samples would tell the
    difference, or a point where it is smaller, apart (four times in five, at 5 %); None where the interval excludes
    zero.
    """

    ensemble: str
    reference: str
    number: Literal["clean", "worst_case", "common", "union", "attack"]
    attack: str
    backend: str
    params: dict[str, Any]
    targeted: bool
    eps: float | None
    norm: str
    n: int
    accuracy: float
    reference_accuracy: float
    difference: float
    ci95: list[float]
    only_ensemble: int | None
    only_reference: int | None
    p: float
    p_holm: float
    needed: int | None


class SeedComparison(TypedDict):
    """One difference over training seeds: each of ``values`` is that of two ensembles of one of ``seeds``.

    ``ensemble`` and ``reference`` are what those of all seeds are called; the other fields are those of a
    :class:`Comparison`, but that ``ci95`` and ``p`` are of the paired t test over seeds, and ``std`` is the standard
    deviation of the differences (ddof=1). What is the same with every seed has a p of 0, or of 1 where it is 0.
    """

    ensemble: str
    reference: str
    number: str
    attack: str
    backend: str
    params: dict[str, Any]
    targeted: bool
    eps: float | None
    norm: str
    seeds: list[int]
    values: list[float]
    difference: float
    std: float
    ci95: list[float]
    p: float
    p_holm: float


class Compared(TypedDict, total=False):
    """Empty where one ensemble was evaluated; files from before there were comparisons lack the key."""

    comparisons: list[Comparison]
    comparisons_over_seeds: list[SeedComparison]

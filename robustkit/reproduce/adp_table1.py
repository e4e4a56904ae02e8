"""Table 1 of the ADP paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from robustkit.reproduce import reproduction
from robustkit.reproduce._grid import percent_interval
from robustkit.reproduce._lab import Lab
from robustkit.reproduce._parts import Column, Comparison, Images, Outcome
from robustkit.reproduce._recipes import ADP, ADP_ENTROPY, BASELINE, adp_recipe

# Error rates in %: the three nets, then the ensemble. The paper has no ADP(2,0) on CIFAR-100.
PAPER: Mapping[str, Sequence[tuple[Column, tuple[float, ...]]]] = {
    "mnist": (
        (BASELINE, (0.44, 0.39, 0.43, 0.32)),
        (ADP_ENTROPY, (0.43, 0.45, 0.37, 0.32)),
        (ADP, (0.36, 0.47, 0.47, 0.28)),
    ),
    "cifar10": (
        (BASELINE, (8.30, 8.52, 8.67, 6.78)),
        (ADP_ENTROPY, (9.01, 9.15, 9.14, 6.74)),
        (ADP, (9.34, 9.34, 9.92, 6.56)),
    ),
    "cifar100": (
        (BASELINE, (35.25, 35.91, 36.03, 30.35)),
        (ADP, (39.04, 40.86, 39.00, 29.80)),
    ),
}
ROWS = ("Net 1", "Net 2", "Net 3", "Ensemble")


@reproduction(
    "adp-table1",
    title="ADP, Table 1: classification error rates on normal test images",
    source="Pang et al. 2019, arXiv:1901.08846, Table 1 and section 4.2",
    datasets=("mnist", "cifar10", "cifar100"),
    defenses=("baseline", "adp"),
    attacks=(),
)
def adp_table1(lab: Lab) -> Outcome:
    """Test error rates of three members and their ensemble: plain, ADP(2,0) and ADP(2,0.5)."""
    paper = PAPER[lab.stands_for]
    columns = [column for column, _ in paper]
    lab.train(columns, adp_recipe(lab.stands_for))
    results = lab.clean(columns, Images(10_000, 10_000))
    n, found = results["dataset"]["n"], {e["id"]: e for e in results["ensembles"]}
    comparisons = []
    for at, row in enumerate(ROWS):
        for column, published in paper:
            e = found[lab.name(column)]
            error = 1 - [*e["member_accuracy"], e["accuracy"]][at]
            comparisons.append(
                Comparison(row, column.name, 100 * error, published[at], ci95=percent_interval(error, n))
            )
    return Outcome(comparisons, decimals=2)

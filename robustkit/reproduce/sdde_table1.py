"""Table 1 of the SDDE paper."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from robustkit.functional.stats import finite
from robustkit.metrics import diversity
from robustkit.metrics.diversity import Ints
from robustkit.reproduce import reproduction
from robustkit.reproduce._grid import percent_interval
from robustkit.reproduce._lab import Lab
from robustkit.reproduce._parts import Comparison, Images, Outcome, Spread
from robustkit.reproduce._recipes import sdde_columns, sdde_recipe

COLUMNS = sdde_columns("cifar10")  # those of CIFAR-100 are the same
UNITS = {
    "disagreement": "%", "correlation": "%", "Q": "%", "D/S error ratio": "", "MI": "nats", "mean error": "%",
    "ensemble error": "%",
}  # fmt: skip
# Mean and standard deviation over five seeds, a row per method: the metrics in the order of UNITS.
PAPER: Mapping[str, Mapping[str, tuple[Spread, ...]]] = {
    "cifar10": {
        "DE": ((4.37, 0.26), (58.85, 1.43), (97.38, 0.31), (0.22, 0.02), (2.06, 0.01), (4.89, 0.13), (3.93, 0.10)),
        "NCL": ((4.32, 0.16), (59.92, 0.81), (97.53, 0.17), (0.22, 0.01), (2.07, 0.01), (4.95, 0.13), (4.04, 0.08)),
        "ADP": ((4.89, 0.06), (57.52, 0.39), (97.03, 0.09), (0.32, 0.01), (2.04, 0.00), (5.14, 0.04), (3.93, 0.12)),
        "DICE": ((4.88, 1.01), (57.61, 4.15), (96.82, 1.32), (0.25, 0.05), (2.04, 0.04), (5.24, 0.57), (4.10, 0.16)),
        "SDDE": ((4.33, 0.13), (59.29, 0.95), (97.47, 0.18), (0.23, 0.01), (2.07, 0.01), (4.87, 0.11), (3.92, 0.11)),
    },
    "cifar100": {
        "DE": ((20.81, 2.09), (62.90, 2.25), (92.70, 1.42), (0.86, 0.10), (3.63, 0.09), (23.12, 1.28), (19.05, 0.54)),
        "NCL": ((20.57, 0.93), (63.06, 1.32), (92.86, 0.70), (0.83, 0.04), (3.64, 0.04), (23.00, 0.47), (19.08, 0.20)),
        "ADP": ((25.53, 0.28), (63.02, 0.78), (92.44, 0.40), (1.78, 0.08), (3.43, 0.01), (25.13, 0.12), (18.82, 0.06)),
        "DICE": ((21.98, 0.31), (60.88, 0.41), (91.78, 0.26), (0.98, 0.01), (3.59, 0.01), (23.20, 0.25), (18.74, 0.25)),
        "SDDE": ((21.00, 1.34), (61.43, 1.94), (92.09, 1.13), (0.86, 0.07), (3.63, 0.05), (22.80, 0.63), (18.67, 0.25)),
    },
}


@reproduction(
    "sdde-table1",
    title="SDDE, Table 1: diversity of the members' answers, and errors",
    source="Dereka et al. 2023, Diversifying Deep Ensembles, Table 1 and section 5.2",
    datasets=("cifar10", "cifar100"),
    defenses=("baseline", "ncl", "adp", "dice", "sdde"),
    attacks=(),
)
def sdde_table1(lab: Lab) -> Outcome:
    """Disagreement, correlation, Q, D/S error ratio, MI and errors of five members: DE, NCL, ADP, DICE and SDDE."""
    lab.train(COLUMNS, sdde_recipe(lab.stands_for))
    results = lab.clean(COLUMNS, Images(10_000, 10_000, stated=False))
    runs = {record.id: run.samples for record, run in lab.runs("clean")}
    comparisons = []
    for column in COLUMNS:
        samples = runs[lab.name(column)]
        values = measures(samples.member_prediction, samples.prediction, samples.y)
        for (metric, unit), (mean, spread) in zip(UNITS.items(), PAPER[lab.stands_for][column.name], strict=True):
            share = values[metric] / 100 if metric == "ensemble error" else None
            comparisons.append(
                Comparison(
                    metric,
                    column.name,
                    finite(values[metric]),
                    mean,
                    unit,
                    spread=spread,
                    ci95=None if share is None else percent_interval(share, results["dataset"]["n"]),
                )  # fmt: skip
            )
    order = list(UNITS)
    comparisons.sort(key=lambda c: order.index(c.row))
    note = (
        "Disagreement is that of labels and MI that between two members' labels, which is what the paper's own numbers "
        "fit; means over pairs of members. The paper prints mean and standard deviation over five seeds."
    )
    return Outcome(comparisons, decimals=2, note=note)


def measures(members: Ints, fused: Ints, y: Ints) -> dict[str, float]:
    """Return the metrics of the table from labels (M, N), (N,), (N,), in the paper's units."""
    return {
        "disagreement": 100 * diversity.label_disagreement(members),
        "correlation": 100 * diversity.correlation(members, y),
        "Q": 100 * diversity.q_statistic(members, y),
        "D/S error ratio": diversity.error_ratio(members, y),
        "MI": diversity.label_mutual_information(members),
        "mean error": 100 * float(np.mean(members != y)),
        "ensemble error": 100 * float(np.mean(fused != y)),
    }

"""Table 2 of the SDDE paper."""

from __future__ import annotations

from collections.abc import Mapping

from robustkit.records.schema_suites import CalibrationResult
from robustkit.reproduce import reproduction
from robustkit.reproduce._grid import percent_interval
from robustkit.reproduce._lab import Lab
from robustkit.reproduce._parts import Comparison, Images, Outcome, Spread
from robustkit.reproduce._recipes import sdde_columns, sdde_recipe

SCALES = {"NLL x 10": 10.0, "ECE x 100": 100.0, "Brier x 100": 100.0, "accuracy %": 100.0}
# Mean and standard deviation over five seeds, a row per method: the metrics in the order of SCALES.
PAPER: Mapping[str, Mapping[str, tuple[Spread, ...]]] = {
    "mnist": {
        "DE": ((0.38, 0.02), (0.21, 0.07), (1.95, 0.09), (98.72, 0.07)),
        "NCL": ((0.36, 0.02), (0.19, 0.07), (1.89, 0.08), (98.76, 0.03)),
        "ADP": ((0.35, 0.02), (0.31, 0.05), (1.77, 0.12), (98.85, 0.11)),
        "DICE": ((0.37, 0.02), (0.29, 0.07), (1.84, 0.09), (98.81, 0.09)),
        "SDDE": ((0.37, 0.03), (0.28, 0.08), (1.92, 0.15), (98.73, 0.14)),
    },
    "cifar10": {
        "DE": ((1.30, 0.02), (0.84, 0.16), (5.96, 0.08), (96.07, 0.10)),
        "NCL": ((1.33, 0.01), (0.87, 0.13), (6.03, 0.08), (95.96, 0.08)),
        "ADP": ((1.36, 0.02), (1.00, 0.14), (5.99, 0.07), (96.07, 0.12)),
        "DICE": ((1.45, 0.03), (1.33, 0.06), (6.33, 0.23), (95.90, 0.16)),
        "SDDE": ((1.28, 0.01), (0.82, 0.15), (5.88, 0.07), (96.08, 0.11)),
    },
    "cifar100": {
        "DE": ((7.21, 0.14), (3.78, 0.17), (27.33, 0.76), (80.95, 0.54)),
        "NCL": ((7.22, 0.05), (3.86, 0.23), (27.34, 0.33), (80.92, 0.20)),
        "ADP": ((7.54, 0.03), (3.73, 0.28), (27.08, 0.17), (81.18, 0.06)),
        "DICE": ((7.46, 0.054), (4.46, 0.36), (27.12, 0.26), (81.26, 0.25)),
        "SDDE": ((6.93, 0.05), (3.48, 0.36), (26.64, 0.34), (81.33, 0.28)),
    },
}


@reproduction(
    "sdde-table2",
    title="SDDE, Table 2: accuracy and calibration after a temperature",
    source="Dereka et al. 2023, Diversifying Deep Ensembles, Table 2 and section 5.3",
    datasets=("mnist", "cifar10", "cifar100"),
    defenses=("baseline", "ncl", "adp", "dice", "sdde"),
    attacks=(),
)
def sdde_table2(lab: Lab) -> Outcome:
    """NLL, ECE, Brier score and accuracy of five members after a temperature: DE, NCL, ADP, DICE and SDDE."""
    columns = sdde_columns(lab.stands_for)
    lab.train(columns, sdde_recipe(lab.stands_for))
    results = lab.evaluate("calibration", columns, Images(10_000, 10_000, stated=False), suites="calibration")
    fused = {r["ensemble"]: r for r in results["calibration"] if r["output"] == "ensemble"}
    found: dict[str, list[Comparison]] = {metric: [] for metric in SCALES}
    without = []
    for column in columns:
        r = fused[lab.name(column)]
        if not r["after"]:
            without.append(column.name)
        values = measures(r)
        for (metric, scale), (mean, spread) in zip(SCALES.items(), PAPER[lab.stands_for][column.name], strict=True):
            value = values[metric]
            share = percent_interval(value, r["n"]) if metric == "accuracy %" and value is not None else None
            ours = None if value is None else scale * value
            found[metric].append(Comparison(metric, column.name, ours, mean, "", spread=spread, ci95=share))
    note = (
        "NLL in nats. The temperature is one scalar on the fused log-probabilities, fitted on the validation split. "
        "The paper prints mean and standard deviation over five seeds."
    )
    if without:
        note += f" No temperature could be fitted for {', '.join(without)}: these numbers are without one."
    return Outcome([one for metric in found.values() for one in metric], decimals=2, note=note)


def measures(r: CalibrationResult) -> dict[str, float | None]:
    """Return the metrics of the table, unscaled: after the temperature, or before it where there is none."""
    quality = r["after"] or r["before"]
    if quality is None:
        return dict.fromkeys(SCALES)
    return dict(zip(SCALES, (quality["nll"], quality["ece"], quality["brier"], r["accuracy"]), strict=True))

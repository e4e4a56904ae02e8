"""Table 3 of the EdgeNES paper."""

from __future__ import annotations

from typing import Any

from robustkit.reproduce import reproduction
from robustkit.reproduce._lab import Lab
from robustkit.reproduce._parts import Claim, Comparison, Outcome, Spread
from robustkit.reproduce._search import Runs, Searches, compared, search_seconds

MEMBERS = 3
ENSEMBLES = {  # a row of the paper, and the method that makes it
    "DartsEns": "darts-ensemble", "Random-NES": "random", "RandomD-NES": "random-deviation", "EdgeNES": "edgenes",
}  # fmt: skip
SINGLE = {"DARTS": "DartsEns", "Random": "Random-NES"}  # single networks: the members of these ensembles by themselves
# Mean and deviation of the test accuracy in percent, and GPU hours of the search.
PAPER: dict[str, tuple[Spread, float]] = {
    "DARTS": ((46.8, 1.7), 1.2), "Random": ((44.6, 6.9), 0.0), "DartsEns": ((48.9, 1.2), 3.6),
    "Random-NES": ((46.9, 3.2), 0.0), "RandomD-NES": ((47.7, 2.0), 1.2), "EdgeNES": ((48.1, 1.7), 2.1),
}  # fmt: skip


@reproduction(
    "edgenes-table3",
    title="EdgeNES, Table 3: test accuracy and cost of the search",
    source="EdgeNES, Table 3 and section 4.3",
    datasets=("cifar100",),
    defenses=("baseline",),
    attacks=(),
    searches=("edgenes",),
)
def edgenes_table3(lab: Lab) -> Outcome:
    """Accuracy and search cost of ensembles of three by four methods, and of single networks by two."""
    runs = Searches(lab, Runs(None, 2))
    accuracy: dict[str, list[float]] = {name: [] for name in PAPER}
    seconds: dict[str, list[float]] = {name: [] for name in PAPER}
    for seed in runs.seeds:
        for row, name in ENSEMBLES.items():
            record: dict[str, Any] = runs.searched(name, MEMBERS, seed, f"{name}-{seed}")
            accuracy[row].append(100 * record["metrics"]["test_accuracy"])
            seconds[row].append(search_seconds(record))
            for single, of in SINGLE.items():
                if of == row:
                    accuracy[single] += [100 * own for own in record["metrics"]["test_member_accuracy"]]
                    seconds[single].append(search_seconds(record) / MEMBERS)
    rows = [compared("test accuracy", name, accuracy[name], paper) for name, (paper, _) in PAPER.items()]
    unit = sum(seconds["DARTS"])
    shares = {name: sum(values) / unit for name, values in seconds.items()}
    rows += [
        Comparison("cost of the search, of one DARTS", name, shares[name], hours / PAPER["DARTS"][1], "x")
        for name, (_, hours) in PAPER.items()
    ]
    means = {name: sum(values) / len(values) for name, values in accuracy.items()}
    claims = [
        Claim(
            "EdgeNES needs less than repeated DARTS (2.1 of 3.6 GPU hours)",
            f"{shares['EdgeNES'] / shares['DartsEns']:.2f} of its seconds", shares["EdgeNES"] < shares["DartsEns"],
        ),
        Claim(
            "EdgeNES excels in accuracy over randomly generated architectures",
            f"{means['EdgeNES']:.2f} % against {means['Random-NES']:.2f} and {means['RandomD-NES']:.2f} %",
            means["EdgeNES"] > max(means["Random-NES"], means["RandomD-NES"]),
        ),
    ]  # fmt: skip
    note = (
        "DARTS and Random are the members of DartsEns and Random-NES by themselves. The paper's cost is in GPU hours."
    )
    return Outcome(rows, claims, decimals=2, note=note)

"""Table 2 of the EdgeNES paper."""

from __future__ import annotations

import numpy as np

from robustkit.reproduce import reproduction
from robustkit.reproduce._lab import Lab
from robustkit.reproduce._parts import Claim, Outcome, Spread
from robustkit.reproduce._search import Runs, Searches, compared
from robustkit.training.step import generator_of

COLUMNS = ("Hypernetwork", "Random Deviation")
# Mean and deviation of the accuracy over seven runs, by shared edges, in the order of COLUMNS.
PAPER: dict[int, tuple[Spread, Spread]] = {
    0: ((46.2, 2.5), (43.9, 7.7)), 1: ((45.9, 2.7), (46.1, 5.4)), 2: ((46.7, 2.8), (45.6, 4.9)),
    3: ((46.6, 2.1), (45.9, 2.5)),
}  # fmt: skip
REPLACED = 60_000  # stream of the edges that are replaced at random


@reproduction(
    "edgenes-table2",
    title="EdgeNES, Table 2: architectures of the hypernetwork and with edges replaced at random",
    source="EdgeNES, Table 2 and section 4.1",
    datasets=("cifar100",),
    defenses=("baseline",),
    attacks=(),
    searches=("edgenes",),
)
def edgenes_table2(lab: Lab) -> Outcome:
    """Accuracy by shared edges of architectures that the hypernetwork draws, and of the optimum with edges replaced."""
    runs = Searches(lab, Runs(7, 2))
    found: dict[tuple[int, str], list[float]] = {(lam, name): [] for lam in PAPER for name in COLUMNS}
    for seed in runs.seeds:
        around = runs.around(seed)
        for lam in PAPER:
            deviation = runs.space.deviation(
                around.optimum, runs.space.length - lam, generator_of(seed, REPLACED + lam, 0)
            )
            found[lam, COLUMNS[0]].append(runs.accuracy_at(around, float(lam), seed))
            found[lam, COLUMNS[1]].append(runs.accuracy(runs.retrained(deviation, seed)))
    comparisons = [
        compared(f"{lam} shared edges", name, found[lam, name], numbers[at])
        for lam, numbers in PAPER.items()
        for at, name in enumerate(COLUMNS)
    ]
    ours, random = (float(np.mean([found[lam, name] for lam in PAPER])) for name in COLUMNS)
    fewest, most = (float(np.mean(found[lam, COLUMNS[1]])) for lam in (min(PAPER), max(PAPER)))
    claims = [
        Claim(
            "the hypernetwork's architectures are more accurate than those of random deviation",
            f"{ours:.2f} % against {random:.2f} %, means over shared edges", ours > random,
        ),
        Claim(
            "of random deviation, the mean accuracy decreases with the number of replaced edges",
            f"{most:.2f} % with {max(PAPER)} shared edges, {fewest:.2f} % with {min(PAPER)}", most > fewest,
        ),
    ]  # fmt: skip
    note = "With all edges shared both are the optimum, up to what the hypernetwork misses lambda by."
    return Outcome(comparisons, claims, decimals=1, note=note)

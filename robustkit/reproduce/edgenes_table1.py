"""Table 1 of the EdgeNES paper."""

from __future__ import annotations

from robustkit.reproduce import reproduction
from robustkit.reproduce._lab import Lab
from robustkit.reproduce._parts import Outcome, Spread
from robustkit.reproduce._search import Runs, Searches, compared

# Mean and deviation of the accuracy with the warm-up on and off, by the edges that are shared with the optimum.
PAPER: dict[int, tuple[Spread, Spread]] = {
    1: ((59.8, 1.8), (57.3, 2.8)), 2: ((62.4, 2.0), (57.7, 2.1)), 3: ((61.6, 0.5), (60.2, 1.7)),
}  # fmt: skip


@reproduction(
    "edgenes-table1",
    title="EdgeNES, Table 1: warming of the regulariser's weight and of the temperature",
    source="EdgeNES, Table 1 and section 3.3",
    datasets=("cifar10",),
    defenses=("baseline",),
    attacks=(),
    searches=("edgenes",),
)
def edgenes_table1(lab: Lab) -> Outcome:
    """Accuracy of drawn architectures by shared edges, with c and temperature warmed and constant."""
    runs = Searches(lab, Runs(None, 2))
    found: dict[tuple[int, bool], list[float]] = {}
    for seed in runs.seeds:
        for warm in (True, False):
            around = runs.around(seed, warm_weight=warm, warm_temperature=warm)
            for lam in PAPER:
                found.setdefault((lam, warm), []).append(runs.accuracy_at(around, float(lam), seed))
    comparisons = [
        compared(f"{lam} common edges", name, found[lam, warm], numbers[column])
        for lam, numbers in PAPER.items()
        for column, (name, warm) in enumerate((("On", True), ("Off", False)))
    ]
    note = "Off: both settings have their last value throughout, c 3 and temperature .05; the paper does not say which."
    return Outcome(comparisons, decimals=1, note=note)

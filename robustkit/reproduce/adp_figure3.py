"""Figure 3 of the ADP paper."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from robustkit.records.schema import Transfer
from robustkit.reports._drawing import Drawing
from robustkit.reports._heatmaps import heatmap
from robustkit.reproduce import reproduction
from robustkit.reproduce._lab import Lab
from robustkit.reproduce._parts import Claim, Comparison, Images, Outcome
from robustkit.reproduce._recipes import ADP, BASELINE, adp_recipe

COLUMNS = (BASELINE, ADP)
EPS = 0.05
WORDS = "ADP significantly alleviates the transferability among the members ({attack}, {mode})"


@reproduction(
    "adp-figure3",
    title="ADP, Figure 3: how adversarial examples of one member transfer to the others",
    source="Pang et al. 2019, arXiv:1901.08846, Figure 3 and section 4.4",
    datasets=("cifar10",),
    defenses=("baseline", "adp"),
    attacks=("pgd", "mim"),
)
def adp_figure3(lab: Lab) -> Outcome:
    """Member-to-member transfer of PGD and MIM at eps 0.05, untargeted and targeted: plain and ADP(2,0.5)."""
    lab.train(COLUMNS, adp_recipe(lab.stands_for))
    results = lab.evaluate("transfer", COLUMNS, Images(10_000, 300), attacks="pgd,mim", eps=EPS, suites="transfer")
    comparisons, claims, drawings = [], [], []
    for attack, targeted, pair in _pairs(lab, results["transfer"]):
        mode, what = ("targeted", "success rate") if targeted else ("untargeted", "accuracy")
        means = [off_diagonal(t) for t in pair]
        row = f"{attack.upper()}, {mode}: mean {what} off the diagonal"
        comparisons += [Comparison(row, c.name, 100 * mean) for c, mean in zip(COLUMNS, means, strict=True)]
        measured = f"mean {what} on the other members {100 * means[0]:.1f} % plain, {100 * means[1]:.1f} % ADP"
        holds = means[1] < means[0] if targeted else means[1] > means[0]
        claims.append(Claim(WORDS.format(attack=attack.upper(), mode=mode), measured, holds))
        title = f"{attack}, {mode}, eps {EPS}: {what}"
        drawings.append(Drawing(f"transfer-{attack}-{mode}", title, heatmap(title, list(pair)), "transfer"))
    note = "The paper's numbers are only in its picture. Off the diagonal: crafted on one member, scored on another."
    return Outcome(comparisons, claims, drawings, note=note)


def off_diagonal(t: Transfer) -> float:
    """Return the mean over pairs of different members; the last row and column are the ensemble's and do not count."""
    members = np.asarray(t["matrix"], float)[:-1, :-1]
    return float(members[~np.eye(len(members), dtype=bool)].mean())


def _pairs(lab: Lab, transfer: list[Transfer]) -> Iterator[tuple[str, bool, tuple[Transfer, ...]]]:
    """Yield the matrices of both ensembles over all images, by attack and mode."""
    by = {
        (t["attack"], t["targeted"], t["ensemble"]): t for t in transfer if not t["metric"].endswith("common-correct")
    }
    for targeted in (False, True):
        for attack in ("pgd", "mim"):
            pair = [by[attack, targeted, lab.name(column)] for column in COLUMNS]
            named = [Transfer(**{**t, "ensemble": c.name}) for t, c in zip(pair, COLUMNS, strict=True)]
            yield attack, targeted, tuple(named)

"""Table 2 of the ADP paper."""

from __future__ import annotations

from collections.abc import Mapping

from robustkit.reproduce import reproduction
from robustkit.reproduce._grid import GRADIENT, OPTIMISED, SALIENCY, UNSTUCK, Numbers, compare
from robustkit.reproduce._lab import Lab
from robustkit.reproduce._parts import Outcome
from robustkit.reproduce._recipes import ADP, ADP_ENTROPY, BASELINE, adp_recipe

COLUMNS = (BASELINE, ADP_ENTROPY, ADP)
# Accuracies in % by attack and eps, gamma or c: baseline, ADP(2,0), ADP(2,0.5).
PAPER: Mapping[str, Numbers] = {
    "mnist": {
        ("fgsm", 0.1): (78.3, 95.5, 96.3),
        ("fgsm", 0.2): (21.5, 50.6, 52.8),
        ("bim", 0.1): (52.3, 86.4, 88.5),
        ("bim", 0.15): (12.2, 69.5, 73.6),
        ("pgd", 0.1): (50.7, 73.4, 82.8),
        ("pgd", 0.15): (6.3, 36.2, 41.0),
        ("mim", 0.1): (58.3, 89.7, 92.0),
        ("mim", 0.15): (16.1, 73.3, 77.5),
        ("jsma", 0.3): (84.0, 88.0, 95.0),
        ("jsma", 0.6): (74.0, 85.0, 91.0),
        ("cw", 0.1): (91.6, 95.9, 97.3),
        ("cw", 1.0): (30.6, 75.0, 78.1),
        ("cw", 10.0): (5.9, 20.2, 23.8),
        ("ead", 5.0): (29.8, 91.3, 93.4),
        ("ead", 10.0): (7.3, 87.4, 89.5),
    },
    "cifar10": {
        ("fgsm", 0.02): (36.5, 57.4, 61.7),
        ("fgsm", 0.04): (19.4, 41.9, 46.2),
        ("bim", 0.01): (18.5, 44.0, 46.6),
        ("bim", 0.02): (6.1, 28.2, 31.0),
        ("pgd", 0.01): (23.4, 43.2, 48.4),
        ("pgd", 0.02): (6.6, 26.8, 30.4),
        ("mim", 0.01): (23.8, 49.6, 52.1),
        ("mim", 0.02): (7.4, 32.3, 35.9),
        ("jsma", 0.05): (29.5, 33.0, 43.5),
        ("jsma", 0.1): (27.5, 32.0, 37.0),
        ("cw", 0.001): (71.3, 76.3, 80.6),
        ("cw", 0.01): (45.2, 50.3, 54.9),
        ("cw", 0.1): (18.8, 19.2, 25.6),
        ("ead", 1.0): (17.5, 64.5, 67.3),
        ("ead", 5.0): (2.4, 23.4, 29.6),
    },
}
NOTE = (
    "JSMA: the paper's code never moves a feature that is at 1, and where the most salient one is at 0 it chooses that "
    "one again and again, so that the image stays as it is; its rows follow it in that. The rows 'not stuck' move the "
    "most salient feature that has room, everything else being the same."
)


@reproduction(
    "adp-table2",
    title="ADP, Table 2: accuracy under white-box attacks",
    source="Pang et al. 2019, arXiv:1901.08846, Table 2 and section 4.3",
    datasets=("mnist", "cifar10"),
    defenses=("baseline", "adp"),
    attacks=("fgsm", "bim", "pgd", "mim", "jsma", "cw", "ead"),
)
def adp_table2(lab: Lab) -> Outcome:
    """Accuracy of three-member ensembles under seven attacks: plain, ADP(2,0) and ADP(2,0.5)."""
    lab.train(COLUMNS, adp_recipe(lab.stands_for))
    found, paper = [], PAPER[lab.stands_for]
    for group in (GRADIENT, SALIENCY, OPTIMISED):
        found += compare(lab, "adp-table2", COLUMNS, paper, [group])
        if group is SALIENCY:
            found += compare(lab, "adp-table2", COLUMNS, paper, [group], UNSTUCK)
    return Outcome(found, note=NOTE)

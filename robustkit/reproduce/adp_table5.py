"""Table 5 of the ADP paper."""

from __future__ import annotations

from robustkit.reproduce import reproduction
from robustkit.reproduce._grid import GRADIENT, OPTIMISED, Numbers, accuracies, compare
from robustkit.reproduce._lab import Lab
from robustkit.reproduce._parts import Images, Outcome
from robustkit.reproduce._recipes import ADP, BASELINE, adp_recipe

COLUMNS = (BASELINE, ADP)
NORMAL = (93.6, 93.8)
# Accuracies in % on CIFAR-10: baseline, ADP(2,0.5).
PAPER: Numbers = {
    ("fgsm", 0.02): (42.0, 58.4),
    ("bim", 0.01): (31.6, 41.8),
    ("pgd", 0.01): (37.4, 44.2),
    ("mim", 0.01): (37.1, 47.5),
    ("cw", 0.01): (52.3, 56.5),
    ("ead", 1.0): (20.4, 65.3),
}


@reproduction(
    "adp-table5",
    title="ADP, Table 5: accuracy of ensembles of five",
    source="Pang et al. 2019, arXiv:1901.08846, Table 5 and section 4.6",
    datasets=("cifar10",),
    defenses=("baseline", "adp"),
    attacks=("fgsm", "bim", "pgd", "mim", "cw", "ead"),
)
def adp_table5(lab: Lab) -> Outcome:
    """Accuracy of five-member ensembles, plain and ADP(2,0.5), on normal images and under six attacks."""
    lab.train(COLUMNS, adp_recipe(lab.stands_for, members=5))
    normal = accuracies(lab, lab.clean(COLUMNS, Images(10_000, 10_000)), COLUMNS, "Normal", NORMAL)
    return Outcome([*normal, *compare(lab, "adp-table5", COLUMNS, PAPER, (GRADIENT, OPTIMISED))])

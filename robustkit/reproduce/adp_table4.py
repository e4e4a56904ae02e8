"""Table 4 of the ADP paper."""

from __future__ import annotations

from robustkit.reproduce import reproduction
from robustkit.reproduce._grid import GRADIENT, Numbers, compare
from robustkit.reproduce._lab import Lab
from robustkit.reproduce._parts import Column, Outcome
from robustkit.reproduce._recipes import ADP, adp_recipe

FGSM = {"advt-fgsm.low": 0.01, "advt-fgsm.high": 0.05}
PGD = {"advt-pgd.low": 0.01, "advt-pgd.high": 0.05}
COLUMNS = (
    Column("AdvT-FGSM", "advt-fgsm", FGSM),
    Column("AdvT-FGSM + ADP(2,0.5)", "adp+advt-fgsm", {**ADP.params, **FGSM}),
    Column("AdvT-PGD", "advt-pgd", PGD),
    Column("AdvT-PGD + ADP(2,0.5)", "adp+advt-pgd", {**ADP.params, **PGD}),
)
# Accuracies in % on CIFAR-10, in the order of the columns.
PAPER: Numbers = {
    ("fgsm", 0.04): (39.3, 56.1, 43.2, 52.8),
    ("bim", 0.02): (19.9, 25.7, 27.8, 34.0),
    ("pgd", 0.02): (24.2, 26.7, 32.8, 36.2),
    ("mim", 0.02): (24.5, 30.6, 32.7, 38.8),
}


@reproduction(
    "adp-table4",
    title="ADP, Table 4: adversarial training with and without ADP",
    source="Pang et al. 2019, arXiv:1901.08846, Table 4 and section 4.3",
    datasets=("cifar10",),
    defenses=("advt-fgsm", "adp+advt-fgsm", "advt-pgd", "adp+advt-pgd"),
    attacks=("fgsm", "bim", "pgd", "mim"),
)
def adp_table4(lab: Lab) -> Outcome:
    """Accuracy of adversarially trained three-member ensembles under four attacks, without and with ADP(2,0.5)."""
    lab.train(COLUMNS, adp_recipe(lab.stands_for, paper="adp-advt"))
    return Outcome(compare(lab, "adp-table4", COLUMNS, PAPER, (GRADIENT,)))

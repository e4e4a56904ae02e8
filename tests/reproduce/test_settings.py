"""The settings that differ: computed from records, one line each, nothing that is equal."""

from __future__ import annotations

from robustkit.reproduce._parts import Column, Comparison, Recipe
from robustkit.reproduce._settings import MISSING, Difference, differing, merged, of_attacks, of_training
from robustkit.study import presets

ADP = Column("ADP(2,0.5)", "adp", {"adp.alpha": 2.0, "adp.beta": 0.5})
RECIPE = Recipe("resnet20", 3, 40, 50_000, {"lr": 0.001, "batch_size": 64}, {"flip": False, "optimiser": "adam"})
AS_THE_PAPER = {
    "defense": {"kind": "defense", "name": "adp", "params": {"alpha": 2.0, "beta": 0.5, "temperature": 1.0}},
    "arch": "resnet20", "members": 3, "epochs": 40, "fusion": "mean-prob", "lr": 0.001, "batch_size": 64, "flip": False,
    "optimiser": "adam", "seed": 7,
}  # fmt: skip


def test_a_training_like_the_papers_differs_in_nothing():
    assert of_training(ADP, RECIPE, AS_THE_PAPER) == []


def test_what_differs_in_a_training():
    record = {**AS_THE_PAPER, "arch": "lenet", "epochs": 2, "lr": 0.003}
    record["defense"] = {**AS_THE_PAPER["defense"], "params": {"alpha": 1.0, "beta": 0.5}}
    del record["optimiser"]
    assert of_training(ADP, RECIPE, record) == [
        Difference("architecture", "resnet20", "lenet"),
        Difference("epochs", 40, 2),
        Difference("learning rate", 0.001, 0.003),
        Difference("optimiser", "adam", MISSING),
        Difference("adp.alpha", 2.0, 1.0),
    ]


def test_a_composed_defence_is_recorded_under_its_parts_names():
    both = Column("AdvT + ADP", "adp+advt-fgsm", {"adp.alpha": 2.0, "advt-fgsm.low": 0.01})
    made_with = {"name": "adp+advt-fgsm", "params": {"adp.alpha": 2.0, "adp.beta": 0.5, "advt-fgsm.low": 0.02}}
    assert of_training(both, RECIPE, {**AS_THE_PAPER, "defense": made_with}) == [
        Difference("advt-fgsm.low", 0.01, 0.02)
    ]


def test_one_line_where_all_ensembles_share_a_difference_and_names_where_not():
    epochs, arch = Difference("epochs", 40, 2), Difference("architecture", "resnet20", "lenet")
    assert merged([("Baseline", [epochs, arch]), ("ADP", [epochs])]) == [
        epochs,
        Difference("architecture of Baseline", "resnet20", "lenet"),
    ]


def test_attack_settings_are_compared_with_the_grid_and_the_defaults():
    grid = presets.grid("adp-table2", "mnist")
    assert of_attacks(grid, {}) == []
    asked = {"pgd": {"steps": "50", "restarts": "1"}, "cw": {"steps": "5"}, "jsma": {"gamma": "0.3"}}
    assert of_attacks(grid, asked) == [
        Difference("pgd.steps", 10, 50),
        Difference("jsma.gamma", [0.3, 0.6], 0.3),
        Difference("cw.steps", 1000, 5),
    ]


def test_equal_numbers_of_other_types_do_not_differ():
    assert differing({"epochs": 40, "shape": [1, 28, 28]}, {"epochs": 40.0, "shape": [1, 28, 28]}) == []


def test_the_difference_is_ours_minus_the_papers():
    assert Comparison("Net 1", "ADP", ours=3.0, paper=0.5).difference == 2.5
    assert Comparison("Net 1", "ADP", ours=3.0).difference is None
    assert Comparison("D/S", "ADP", ours=None, paper=0.2).difference is None

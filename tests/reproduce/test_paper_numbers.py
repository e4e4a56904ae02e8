"""The papers' numbers: cells read from the papers by hand, and a number for every row of every grid."""

from __future__ import annotations

import pytest

from robustkit.reproduce import (
    adp_table1,
    adp_table2,
    adp_table4,
    adp_table5,
    reproduction,
    sdde_table1,
    sdde_table2,
    sdde_table3,
)
from robustkit.reproduce._ask import FACTS
from robustkit.reproduce._grid import GRADIENT, OPTIMISED, SALIENCY, rows
from robustkit.reproduce._recipes import SHAPES, adp_recipe, sdde_columns, sdde_recipe
from robustkit.study import presets


def test_adp_table_1():
    by = {d: {c.name: numbers for c, numbers in columns} for d, columns in adp_table1.PAPER.items()}
    assert by["mnist"]["ADP(2,0.5)"][3] == 0.28  # ensemble
    assert by["mnist"]["Baseline"][:3] == (0.44, 0.39, 0.43)
    assert by["cifar10"]["ADP(2,0)"] == (9.01, 9.15, 9.14, 6.74)
    assert by["cifar100"]["ADP(2,0.5)"][1] == 40.86  # Net 2
    assert list(by["cifar100"]) == ["Baseline", "ADP(2,0.5)"]


def test_adp_table_2():
    assert adp_table2.PAPER["mnist"]["pgd", 0.1] == (50.7, 73.4, 82.8)
    assert adp_table2.PAPER["mnist"]["ead", 10.0][2] == 89.5
    assert adp_table2.PAPER["cifar10"]["jsma", 0.05] == (29.5, 33.0, 43.5)
    assert adp_table2.PAPER["cifar10"]["cw", 0.001] == (71.3, 76.3, 80.6)
    assert [c.params.get("adp.beta") for c in adp_table2.COLUMNS] == [None, 0.0, 0.5]


def test_adp_tables_4_and_5():
    assert adp_table4.PAPER["fgsm", 0.04] == (39.3, 56.1, 43.2, 52.8)
    assert adp_table4.PAPER["mim", 0.02][3] == 38.8
    assert adp_table5.NORMAL == (93.6, 93.8)
    assert adp_table5.PAPER["cw", 0.01] == (52.3, 56.5)


def test_sdde_table_1():
    cifar10 = sdde_table1.PAPER["cifar10"]
    assert list(cifar10) == ["DE", "NCL", "ADP", "DICE", "SDDE"] == [c.name for c in sdde_table1.COLUMNS]
    assert cifar10["DICE"][0] == (4.88, 1.01)
    assert cifar10["SDDE"][6] == (3.92, 0.11)
    assert sdde_table1.PAPER["cifar100"]["ADP"][3] == (1.78, 0.08)
    assert {len(row) for table in sdde_table1.PAPER.values() for row in table.values()} == {len(sdde_table1.UNITS)}


def test_sdde_table_2():
    assert sdde_table2.PAPER["mnist"]["ADP"] == ((0.35, 0.02), (0.31, 0.05), (1.77, 0.12), (98.85, 0.11))
    assert sdde_table2.PAPER["cifar10"]["DICE"][1] == (1.33, 0.06)
    assert sdde_table2.PAPER["cifar100"]["SDDE"][2:] == ((26.64, 0.34), (81.33, 0.28))
    assert {len(row) for table in sdde_table2.PAPER.values() for row in table.values()} == {len(sdde_table2.SCALES)}


def test_sdde_table_3():
    def number(dataset: str, method: str, title: str) -> tuple[float, float]:
        return sdde_table3.PAPER[dataset][method][sdde_table3.ORDER[dataset].index(title)]

    assert number("mnist", "DE", "NotMNIST") == (89.56, 0.84)
    assert number("mnist", "SDDE", "Texture") == (99.97, 0.01)
    assert number("cifar10", "NCL", "SVHN") == (94.81, 0.46)
    assert number("cifar100", "DICE", "MNIST") == (83.37, 1.11)
    for dataset, sets in sdde_table3.SETS.items():
        assert list(sdde_table3.PAPER[dataset]) == [c.name for c in sdde_columns(dataset)]
        assert sorted(sets) == sorted(sdde_table3.ORDER[dataset][:6])
        for row in sdde_table3.PAPER[dataset].values():
            means = dict(zip(sdde_table3.ORDER[dataset], row, strict=True))
            for distance in ("near", "far"):  # the paper's totals are the means of its sets, up to rounding
                own = [means[title][0] for title, (where, _) in sets.items() if where == distance]
                assert sum(own) / len(own) == pytest.approx(means[f"mean {distance}"][0], abs=0.011)


def test_sdde_weighs_maps_as_the_paper_does_on_each_dataset():
    weights = [sdde_columns(dataset)[-1].params["sdde.lam"] for dataset in ("mnist", "cifar10", "cifar100")]
    assert weights == [0.1, 0.005, 0.005]


@pytest.mark.parametrize(
    ("preset", "dataset", "paper", "groups"),
    [
        ("adp-table2", "mnist", adp_table2.PAPER["mnist"], (GRADIENT, SALIENCY, OPTIMISED)),
        ("adp-table2", "cifar10", adp_table2.PAPER["cifar10"], (GRADIENT, SALIENCY, OPTIMISED)),
        ("adp-table4", "cifar10", adp_table4.PAPER, (GRADIENT,)),
        ("adp-table5", "cifar10", adp_table5.PAPER, (GRADIENT, OPTIMISED)),
    ],
)
def test_every_row_of_a_grid_has_its_number_and_its_group(preset, dataset, paper, groups):
    attacked = [key for names, _ in groups for *_, key in rows(presets.grid(f"{preset}:{dataset}:{names}", "digits"))]
    assert sorted(attacked) == sorted(paper)
    assert len(attacked) == len(set(attacked))


def test_trainings_are_those_of_the_papers_text():
    mnist, five = adp_recipe("mnist"), adp_recipe("cifar10", members=5, paper="adp-advt")
    assert (mnist.arch, mnist.members, mnist.epochs, mnist.images) == ("resnet20", 3, 40, 50_000)
    assert mnist.train == {
        "lr": 0.001, "batch_size": 64, "weight_decay": 1e-4, "optimiser": "adam", "schedule": "steps",
        "drops": "2/3,8/9",
    }  # fmt: skip
    assert (mnist.compared, five.compared) == ({"flip": False}, {"flip": True})
    assert (five.members, five.epochs, five.train["batch_size"]) == (5, 180, 128)
    sdde = sdde_recipe("cifar10")
    assert (sdde.members, sdde.epochs, sdde.train["optimiser"], sdde.train["lr"]) == (5, 100, "sgd", 0.1)
    assert (sdde.arch, sdde.seeds) == ("resnet18-32x32", 5)


@pytest.mark.parametrize("entry", list(reproduction), ids=lambda e: e.name)
def test_every_reproduction_states_its_facts(entry):
    assert set(FACTS) <= set(entry.facts)
    assert set(entry.facts["datasets"]) <= set(SHAPES)
    assert entry.params == ()

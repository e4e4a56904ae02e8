"""What a request becomes: presets with their published numbers, settings, and who decides what."""

from __future__ import annotations

import pytest

from robustkit.attacks import attack
from robustkit.base.errors import UserError
from robustkit.pipeline import request
from robustkit.records.cells import Cell, DatasetRecord, EnsembleRecord
from robustkit.study import presets
from robustkit.study.config import EvaluateConfig
from robustkit.study.plan import Study

# Pang et al. 2019, Table 2, the columns "Para.".
TABLE_2 = {
    "mnist": {
        "fgsm": [0.1, 0.2], "bim": [0.1, 0.15], "pgd": [0.1, 0.15], "mim": [0.1, 0.15],
        "jsma": [0.3, 0.6], "cw": [0.1, 1.0, 10.0], "ead": [5.0, 10.0],
    },
    "cifar10": {
        "fgsm": [0.02, 0.04], "bim": [0.01, 0.02], "pgd": [0.01, 0.02], "mim": [0.01, 0.02],
        "jsma": [0.05, 0.1], "cw": [0.001, 0.01, 0.1], "ead": [1.0, 5.0],
    },
}  # fmt: skip
TABLE_5 = {"fgsm": [0.02], "bim": [0.01], "pgd": [0.01], "mim": [0.01], "cw": [0.01], "ead": [1.0]}


def values(rows: presets.Grid) -> dict[str, list[float]]:
    """The parameter that a table varies, by attack."""
    found: dict[str, list[float]] = {}
    for name, given in rows:
        found.setdefault(name, []).extend(given.get("eps", [given.get("gamma", given.get("initial_c"))]))
    return found


def test_presets_are_the_published_grids():
    for dataset, expected in TABLE_2.items():
        assert values(presets.grid("adp-table2", dataset)) == expected
    assert values(presets.grid("adp-table2:mnist", "npz:x.npz")) == TABLE_2["mnist"]
    part = {name: TABLE_2["mnist"][name] for name in ("jsma", "cw")}
    assert values(presets.grid("adp-table2:mnist:cw,jsma", "digits")) == part
    with pytest.raises(UserError, match="unknown attack of preset 'adp-table2' 'jsmaa': did you mean 'jsma'"):
        presets.grid("adp-table2:mnist:jsmaa", "digits")
    table_4 = {"fgsm": [0.04], "bim": [0.02], "pgd": [0.02], "mim": [0.02]}
    assert values(presets.grid("adp-table4", "cifar10")) == table_4
    assert values(presets.grid("adp-table5", "cifar10")) == TABLE_5
    thetas = {d: {g["theta"] for n, g in presets.grid("adp-table2", d) if n == "jsma"} for d in TABLE_2}
    assert thetas == {"mnist": {0.2}, "cifar10": {0.1}}
    ead = [g for n, g in presets.grid("adp-table2", "mnist") if n == "ead"]
    assert all((g["beta"], g["steps"], g["lr"]) == (0.01, 1000, 0.01) for g in ead)


@pytest.mark.parametrize("dataset", ["mnist", "cifar10"])
def test_a_preset_becomes_a_plan_with_its_own_budgets(dataset: str):
    asked = request.check(EvaluateConfig(attacks=None, preset="adp-table2", dataset=dataset))
    ensemble = EnsembleRecord("adp", "k", "adp", {}, ("resnet20",), 3, "mean-prob", "w")
    study = Study(
        (ensemble,), DatasetRecord(dataset, "test", 9, (), "d"), asked.attacks, asked.eps, asked.norm, 0.05,
        reference=False,
    )  # fmt: skip
    cells: list[Cell] = list(study.white_box(ensemble))
    planned: dict[str, list[float]] = {}
    for cell in cells:
        params = cell.attack.params
        assert "eps" not in params
        given = cell.eps if cell.eps is not None else params.get("gamma", params.get("initial_c"))
        planned.setdefault(cell.attack.name, []).append(given)
        if cell.attack.name in ("bim", "pgd", "mim"):
            assert (params["steps"], params["step_size"]) == (10, None)  # None: eps / 10
        if cell.attack.name in ("cw", "ead"):
            assert (params["steps"], params["search_steps"]) == (1000, 1)
    assert planned == TABLE_2[dataset]
    assert len({c.key for c in cells}) == len(cells)


def test_settings_change_what_a_preset_says_and_attacks_come_beside_it():
    asked = request.check(
        EvaluateConfig(attacks="apgd-ce", preset="adp-table4", dataset="cifar10", settings=["pgd.steps=50"])
    )
    assert [(a.name, a.params.get("steps")) for a in asked.attacks] == [
        ("fgsm", None), ("bim", 10), ("pgd", 50), ("mim", 10), ("apgd-ce", 100),
    ]  # fmt: skip
    assert asked.eps == (0.02, 0.04)


def test_without_a_preset_the_default_is_pgd_and_mim_at_the_datasets_budgets():
    asked = request.check(EvaluateConfig(attacks=None, dataset="digits"))
    assert [a.name for a in asked.attacks] == ["pgd", "mim"]
    assert asked.eps == (0.05, 0.1, 0.15, 0.2)
    assert set(asked.attacks[0].params) == {p.name for p in attack.entry("pgd").params} - {
        "eps", "norm", "targeted", "stop_early",
    }  # fmt: skip


def test_what_has_no_preset():
    with pytest.raises(UserError, match="preset 'adp-table4' has no grid for dataset 'mnist', only for cifar10"):
        presets.grid("adp-table4", "mnist")
    with pytest.raises(UserError, match="unknown preset 'table2'"):
        presets.grid("table2", "mnist")

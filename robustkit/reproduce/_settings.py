"""The settings that differ from the paper's, computed from the records of what ran. Never imports torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from robustkit.attacks import attack
from robustkit.base import options
from robustkit.reproduce._parts import Column, Recipe
from robustkit.study import presets

MISSING = "not recorded"
NAMES = {
    "arch": "architecture", "lr": "learning rate", "batch_size": "batch size", "weight_decay": "weight decay",
    "flip": "horizontal flips",
}  # fmt: skip
Table = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Difference:
    """One setting that is not the paper's."""

    setting: str
    paper: Any
    ours: Any

    def to_json(self) -> dict[str, Any]:
        """Return the difference as plain JSON."""
        return {"setting": self.setting, "paper": self.paper, "ours": self.ours}


def differing(paper: Mapping[str, Any], ours: Mapping[str, Any]) -> list[Difference]:
    """Return the settings of the paper that differ here, in the paper's order."""
    return [
        Difference(NAMES.get(name, name), value, ours.get(name, MISSING))
        for name, value in paper.items()
        if ours.get(name, MISSING) != value
    ]


def of_training(column: Column, recipe: Recipe, record: Mapping[str, Any]) -> list[Difference]:
    """Return what differs in one training, whose record is ``read_meta(folder)["training"]``."""
    paper = {
        "defense": column.defense, "arch": recipe.arch, "members": recipe.members, "epochs": recipe.epochs,
        "fusion": column.fusion, **recipe.train, **recipe.compared, **column.params,
    }  # fmt: skip
    made_with = record["defense"]
    # The parameters of a composed defence are recorded as adp.alpha, those of a single one as alpha.
    params = made_with["params"] if "+" in column.defense else {
        f"{column.defense}.{name}": value for name, value in made_with["params"].items()
    }  # fmt: skip
    return differing(paper, {**record, **params, "defense": made_with["name"]})


def unstated(columns: Sequence[Column], recipe: Recipe, asked: Table) -> list[Difference]:
    """Return what ``--set`` says of the training where the paper says nothing, so that it is not passed over."""
    stated = {f"train.{name}" for name in (*recipe.train, *recipe.compared)}
    stated |= {name for column in columns for name in column.params}
    methods = {"train", *(part for column in columns for part in column.defense.split("+"))}
    given = {f"{method}.{name}": value for method in methods for name, value in asked.get(method, {}).items()}
    return [Difference(name, "not stated", given[name]) for name in sorted(given) if name not in stated]


def merged(found: Sequence[tuple[str, Sequence[Difference]]]) -> list[Difference]:
    """Return the differences of several ensembles: one line where all of them share it, else the ensembles' names."""
    owners: dict[str, tuple[Difference, list[str]]] = {}
    for name, differences in found:
        for one in differences:
            owners.setdefault(repr(one), (one, []))[1].append(name)
    return [
        one if len(names) == len(found) else Difference(f"{one.setting} of {', '.join(names)}", one.paper, one.ours)
        for one, names in owners.values()
    ]


def of_attacks(grid: presets.Grid, asked: Table) -> list[Difference]:
    """Return the attack parameters that ``--set`` made other than the paper's: the grid's and the defaults."""
    found = []
    for name in dict.fromkeys(row for row, _ in grid):
        entry = attack.entry(name)
        for parameter, text in asked.get(name, {}).items():
            ours = options.coerce(entry, parameter, text)
            published = [given.get(parameter, entry.defaults().get(parameter)) for row, given in grid if row == name]
            values = list(dict.fromkeys(published))
            if values != [ours]:
                found.append(Difference(f"{name}.{parameter}", values[0] if len(values) == 1 else values, ours))
    return found


def distinct(differences: Iterable[Difference]) -> list[Difference]:
    """Return the differences without repetitions, in order."""
    return list({repr(one): one for one in differences}.values())

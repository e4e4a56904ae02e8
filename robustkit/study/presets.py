"""Attack grids of published tables, by name. Never imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robustkit.base.errors import UserError, unknown

Grid = tuple[tuple[str, Mapping[str, Any]], ...]  # attack and parameters; ``eps`` lists the budgets


def _fixed(**eps: tuple[float, ...]) -> Grid:
    return tuple((name, {"eps": values}) for name, values in eps.items())


def _jsma(theta: float, *gammas: float) -> Grid:
    # The ADP code lowers F_y, one feature at a time, gamma limits its steps, and it bars the features that are at 1.
    common = {"theta": theta, "aim": "away", "increase": False, "limit": "steps", "movable": "below-one"}
    return tuple(("jsma", {**common, "gamma": g}) for g in gammas)


def _optimised(cw: tuple[float, ...] = (), ead: tuple[float, ...] = ()) -> Grid:
    # c is given, so there is no search; confidence 0.1 is the public code's.
    common: dict[str, Any] = {"steps": 1000, "lr": 0.01, "search_steps": 1, "confidence": 0.1}
    common |= {"adaptive": False, "abort_early": False}
    rows: list[tuple[str, Mapping[str, Any]]] = [("cw", {**common, "initial_c": c}) for c in cw]
    rows += [("ead", {**common, "initial_c": c, "beta": 0.01, "decision_rule": "EN"}) for c in ead]
    return tuple(rows)


# Pang et al. 2019 (arXiv:1901.08846), section 4.3: 10 steps of eps / 10 for BIM, PGD and MIM, which is the default.
PRESETS: dict[str, dict[str, Grid]] = {
    "adp-table2": {
        "mnist": (
            *_fixed(fgsm=(0.1, 0.2), bim=(0.1, 0.15), pgd=(0.1, 0.15), mim=(0.1, 0.15)),
            *_jsma(0.2, 0.3, 0.6),
            *_optimised(cw=(0.1, 1.0, 10.0), ead=(5.0, 10.0)),
        ),
        "cifar10": (
            *_fixed(fgsm=(0.02, 0.04), bim=(0.01, 0.02), pgd=(0.01, 0.02), mim=(0.01, 0.02)),
            *_jsma(0.1, 0.05, 0.1),
            *_optimised(cw=(0.001, 0.01, 0.1), ead=(1.0, 5.0)),
        ),
    },
    "adp-table4": {"cifar10": _fixed(fgsm=(0.04,), bim=(0.02,), pgd=(0.02,), mim=(0.02,))},
    "adp-table5": {
        "cifar10": (*_fixed(fgsm=(0.02,), bim=(0.01,), pgd=(0.01,), mim=(0.01,)), *_optimised(cw=(0.01,), ead=(1.0,))),
    },
}


def grid(preset: str, dataset: str) -> Grid:
    """Return the grid of ``NAME`` for a dataset, or of ``NAME:DATASET`` for data that only looks like it.

    ``NAME:DATASET:ATTACKS`` is that part of it whose attacks are listed, like ``adp-table2:mnist:jsma,cw``.

    Raises
    ------
    UserError
        If the preset is unknown, has no grid for the dataset, or has no such attack.
    """
    name, explicit, only = [*preset.split(":", 2), "", ""][:3]
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    wanted = explicit or dataset
    if wanted not in PRESETS[name]:
        known = ", ".join(PRESETS[name])
        raise UserError(
            f"preset '{name}' has no grid for dataset '{wanted}', only for {known}; "
            f"for data like it, write {name}:{next(iter(PRESETS[name]))}."
        )
    rows = PRESETS[name][wanted]
    chosen = [part.strip() for part in only.split(",") if part.strip()]
    for attack in chosen:
        if attack not in (known_attacks := dict.fromkeys(row for row, _ in rows)):
            raise unknown(f"attack of preset '{name}'", attack, known_attacks)
    return tuple((attack, given) for attack, given in rows if not chosen or attack in chosen)

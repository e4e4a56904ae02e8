"""Table 3 of the SDDE paper."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from robustkit import data
from robustkit.base import paths
from robustkit.base.errors import RunError, UserError
from robustkit.records.schema_suites import OodResult, OodScore
from robustkit.reproduce import reproduction
from robustkit.reproduce._lab import Lab
from robustkit.reproduce._parts import Comparison, Images, Outcome, Spread
from robustkit.reproduce._recipes import sdde_columns, sdde_recipe

NEAR: Literal["near"] = "near"
FAR: Literal["far"] = "far"
# The paper's name of a set, how far it is, and what it is here: a dataset, or else a folder of images below --data-dir.
Sets = Mapping[str, tuple[Literal["near", "far"], str]]
_FOLDERS: Sets = {"TIN": (FAR, "tin"), "Texture": (FAR, "texture"), "Places365": (FAR, "places365")}
_OF_CIFAR: Sets = {"MNIST": (FAR, "mnist"), "SVHN": (FAR, "svhn"), **_FOLDERS, "TIN": (NEAR, "tin")}
SETS: Mapping[str, Sets] = {
    "mnist": {
        "Fashion MNIST": (NEAR, "fashionmnist"),
        "NotMNIST": (NEAR, "notmnist"),
        "CIFAR10": (FAR, "cifar10"),
        **_FOLDERS,
    },
    "cifar10": {"CIFAR100": (NEAR, "cifar100"), **_OF_CIFAR},
    "cifar100": {"CIFAR10": (NEAR, "cifar10"), **_OF_CIFAR},
}
# The columns of PAPER.
ORDER = {
    "mnist": ("Fashion MNIST", "NotMNIST", "CIFAR10", "TIN", "Texture", "Places365", "mean near", "mean far"),
    "cifar10": ("CIFAR100", "TIN", "MNIST", "SVHN", "Texture", "Places365", "mean near", "mean far"),
    "cifar100": ("CIFAR10", "TIN", "MNIST", "SVHN", "Texture", "Places365", "mean near", "mean far"),
}
# AUROC in %, mean and standard deviation over five seeds, a row per method.
PAPER: Mapping[str, Mapping[str, tuple[Spread, ...]]] = {
    "mnist": {
        "DE": ((95.34, 0.53), (89.56, 0.84), (99.06, 0.15), (98.93, 0.18), (96.32, 0.79), (99.06, 0.14), (92.45, 0.60),
               (98.34, 0.31)),
        "NCL": ((95.27, 0.42), (89.19, 0.69), (99.06, 0.11), (98.97, 0.12), (97.17, 0.45), (99.03, 0.11),
                (92.23, 0.53), (98.56, 0.19)),
        "ADP": ((96.49, 0.67), (90.98, 0.65), (99.48, 0.18), (99.38, 0.21), (97.52, 0.77), (99.44, 0.15),
                (93.74, 0.48), (98.96, 0.32)),
        "DICE": ((95.85, 0.22), (89.88, 1.51), (99.22, 0.19), (99.10, 0.22), (97.52, 1.05), (99.20, 0.17),
                 (92.87, 0.67), (98.76, 0.41)),
        "SDDE": ((98.85, 0.38), (94.27, 1.32), (99.88, 0.03), (99.84, 0.03), (99.97, 0.01), (99.82, 0.04),
                 (96.56, 0.67), (99.88, 0.02)),
    },
    "cifar10": {
        "DE": ((90.31, 0.23), (91.84, 0.16), (95.35, 0.53), (95.05, 0.47), (92.52, 0.30), (91.29, 0.59), (91.07, 0.17),
               (93.55, 0.20)),
        "NCL": ((90.51, 0.12), (91.93, 0.08), (95.09, 0.29), (94.81, 0.46), (92.18, 0.34), (92.00, 0.26),
                (91.22, 0.09), (93.52, 0.17)),
        "ADP": ((89.96, 0.25), (91.62, 0.13), (95.41, 0.24), (94.66, 0.40), (92.55, 0.12), (91.38, 0.53),
                (90.79, 0.17), (93.50, 0.16)),
        "DICE": ((89.09, 0.79), (90.89, 0.48), (94.46, 1.10), (94.89, 0.49), (92.36, 0.45), (89.84, 1.14),
                 (89.99, 0.63), (92.89, 0.47)),
        "SDDE": ((91.20, 0.13), (92.92, 0.17), (96.77, 0.45), (95.74, 0.36), (92.69, 0.62), (93.19, 0.62),
                 (92.06, 0.13), (94.60, 0.17)),
    },
    "cifar100": {
        "DE": ((80.83, 0.55), (84.28, 0.52), (80.24, 1.43), (81.09, 1.27), (80.16, 0.41), (80.96, 0.26), (82.55, 0.51),
               (80.61, 0.51)),
        "NCL": ((81.11, 0.20), (84.48, 0.19), (79.66, 0.66), (80.91, 1.99), (80.30, 0.52), (81.24, 0.17),
                (82.79, 0.18), (80.53, 0.66)),
        "ADP": ((81.12, 0.19), (84.85, 0.22), (79.54, 0.76), (82.84, 2.16), (81.80, 0.47), (81.28, 0.11),
                (82.98, 0.18), (81.37, 0.54)),
        "DICE": ((81.42, 0.18), (84.94, 0.21), (83.37, 1.11), (82.40, 1.96), (81.43, 0.39), (81.41, 0.27),
                 (83.18, 0.14), (82.15, 0.85)),
        "SDDE": ((81.97, 0.10), (85.34, 0.16), (81.86, 1.80), (83.40, 1.03), (82.67, 0.35), (81.63, 0.18),
                 (83.65, 0.09), (82.39, 0.56)),
    },
}  # fmt: skip
NOTE = (
    "AUROC of the highest fused probability (MSP), of SDDE of the highest average logit (MAL). The paper does not say "
    "which score stands in the table; its Table 10, with MAL for all, differs from it for all but, nearly, SDDE. It "
    "prints mean and standard deviation over five seeds."
)


@reproduction(
    "sdde-table3",
    title="SDDE, Table 3: out-of-distribution detection",
    source="Dereka et al. 2023, Diversifying Deep Ensembles, Table 3 and section 5.4",
    datasets=("mnist", "cifar10", "cifar100"),
    defenses=("baseline", "ncl", "adp", "dice", "sdde"),
    attacks=(),
)
def sdde_table3(lab: Lab) -> Outcome:
    """AUROC of five members against the paper's sets that are below --data-dir: DE, NCL, ADP, DICE and SDDE."""
    wanted = SETS[lab.stands_for]
    here = {title: found for title, (_, name) in wanted.items() if (found := at_hand(lab, name)) is not None}
    columns = sdde_columns(lab.stands_for)
    lab.train(columns, sdde_recipe(lab.stands_for))
    results = lab.evaluate(
        "ood", columns, Images(10_000, 10_000, stated=False), suites="ood",
        ood=[f"{wanted[title][0]}:{name}" for title, name in here.items()] or None,
    )  # fmt: skip
    by = {r["ensemble"]: r for r in results["ood"]}
    scored = [one["name"] for one in results["ood"][0]["sets"]]
    titles = list(here) or scored
    lab.note("out-of-distribution sets", list(wanted), titles)
    rows = [*titles, "mean near", "mean far"]
    whole = {f"mean {d}": all(t in here for t in wanted if wanted[t][0] == d) for d in (NEAR, FAR)}
    comparisons = []
    for row in rows:
        for column in columns:
            r, score = by[lab.name(column)], "mal" if column.defense == "sdde" else "msp"
            if row in whole:
                ours, interval = _mean(r, row.removeprefix("mean "), score), None
            else:
                one = _score(r, here.get(row, row), score)
                ours, interval = one["auroc"], one["ci95"]
            if row in whole and ours is None:
                continue
            known = whole.get(row, row in here)
            mean, spread = (
                PAPER[lab.stands_for][column.name][ORDER[lab.stands_for].index(row)] if known else (None, None)
            )
            text = row if known or row not in whole else f"{row} of these"
            comparisons.append(
                Comparison(
                    text,
                    column.name,
                    None if ours is None else 100 * ours,
                    mean,
                    spread=spread,
                    ci95=None if interval is None else (100 * interval[0], 100 * interval[1]),
                )  # fmt: skip
            )
    note = f"{NOTE} {_missing(wanted, here)}".strip()
    return Outcome(comparisons, decimals=2, note=note, interval="bootstrap")


def at_hand(lab: Lab, name: str) -> str | None:
    """Return what ``--ood`` calls a set that is there, None for one that is not."""
    if name not in data.dataset:
        folder = (Path(lab.ask.data_dir).expanduser() if lab.ask.data_dir else paths.data_dir()) / name
        return f"imagefolder:{folder}" if folder.is_dir() else None
    try:
        loaded = data.load(name, data_dir=lab.ask.data_dir, download=lab.ask.download)
        if not loaded.whole:
            loaded.split("test")
    except (UserError, RunError):
        return None
    return name


def _missing(wanted: Sets, here: Mapping[str, str]) -> str:
    lacking = [title for title in wanted if title not in here]
    if not lacking:
        return ""
    instead = "" if here else "; the sets that robustkit ships stand in, and have no number of the paper"
    return f"Not at hand, and left out: {', '.join(lacking)}{instead}."


def _score(r: OodResult, name: str, score: str) -> OodScore:
    one = next(one for one in r["sets"] if one["name"] == name)
    return next(s for s in one["scores"] if s["score"] == score)


def _mean(r: OodResult, distance: str, score: str) -> float | None:
    return next((m["auroc"] for m in r["means"] if (m["distance"], m["score"]) == (distance, score)), None)

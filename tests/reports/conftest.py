"""Results made by hand, in which every number is known."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from robustkit.records.schema import Check, Escalation, EscalationStep, Evaluation, MinimumNorm, Results, Transfer

N = 500
EPS = (4 / 255, 8 / 255, 0.05)
FAILED: Check = {
    "name": "iterations-suffice", "passed": False, "value": 3.25, "threshold": 1.0,
    "advice": "Run again with --set pgd.steps=100: twice the steps break more samples.",
}  # fmt: skip
PASSED: Check = {
    "name": "deterministic", "passed": True, "value": 0.0, "threshold": 1e-4, "advice": "Nothing to do.",
}  # fmt: skip
SWAPPED: Check = {
    "name": "fusion-swap", "passed": False, "value": 0.0625, "threshold": 0.01,
    "advice": "Attack the members: run --attacks fusion-swap.",
}  # fmt: skip
# ensemble -> label -> robust accuracy at the three EPS
ROBUST = {
    "baseline": {
        "pgd-10": (0.702, 0.326, 0.112), "pgd-100": (0.640, 0.052, 0.004),
        "mim-10": (0.690, 0.310, 0.100), "fgsm, targeted": (0.940, 0.822, 0.714),
    },
    "adp": {
        "pgd-10": (0.790, 0.448, 0.204), "pgd-100": (0.684, 0.116, 0.010),
        "mim-10": (0.774, 0.412, 0.190), "fgsm, targeted": (0.958, 0.872, 0.790),
    },
}  # fmt: skip
SOURCES = ["member 0", "member 1", "member 2", "ensemble"]


def evaluation(ensemble: str, label: str, eps: float, robust: float, **changes: Any) -> Evaluation:
    attack = label.split(",")[0].split("-")[0]
    params: dict[str, Any] = {"steps": 100 if "100" in label else 10, "step_size": eps / 10, "restarts": 1}
    suspect = label in ("pgd-10", "mim-10") and eps > 5 / 255
    value: Evaluation = {
        "ensemble": ensemble, "attack": attack, "backend": "native",
        "params": {} if attack == "fgsm" else params, "eps": eps, "norm": "linf",
        "targeted": "targeted" in label, "clean_accuracy": 0.992, "robust_accuracy": robust,
        "ci95": [max(0.0, robust - 0.04), min(1.0, robust + 0.04)],
        "mean_l0": None if attack == "fgsm" else 0.875, "mean_l1": 12.5, "mean_l2": 0.625, "mean_linf": eps,
        "forwards": 11.0, "backwards": 10.5, "seconds": 1.25,
        "verdict": "suspect" if suspect else "trusted", "checks": [PASSED, FAILED] if suspect else [PASSED],
    }  # fmt: skip
    return {**value, **changes}  # type: ignore[typeddict-item]


def transfer(ensemble: str, offset: float, targeted: bool, metric: str) -> Transfer:
    matrix = [[round(offset + 0.1 * row + 0.173 * (row != col), 3) for col in range(4)] for row in range(4)]
    return {
        "ensemble": ensemble, "attack": "pgd", "targeted": targeted, "metric": metric, "sources": SOURCES,
        "params": {"eps": 8 / 255, "norm": "linf", "steps": 10}, "targets": SOURCES, "matrix": matrix,
    }  # fmt: skip


def minimum(ensemble: str, median: float | None, found: float) -> MinimumNorm:
    return {
        "ensemble": ensemble, "attack": "cw", "params": {"steps": 1000}, "norm": "l2", "targeted": False,
        "clean_accuracy": 0.992, "found": found, "median": median, "eps": [0.0, 0.25, 0.5, 0.75],
        "accuracy": [0.992, 0.75, 0.5, 1 - found],
    }  # fmt: skip


def escalation() -> Escalation:
    """Adp at 8/255: a longer PGD breaks more, the fusion swap more still, and that leaves no doubt."""
    steps: list[EscalationStep] = [
        {"attack": "pgd", "params": {"steps": 200, "restarts": 5}, "because": ["iterations-suffice", "fusion-swap"],
         "robust_accuracy": 0.094, "verdict": "suspect", "seconds": 3.5},
        {"attack": "fusion-swap", "params": {"steps": 100}, "because": ["fusion-swap"],
         "robust_accuracy": 0.087, "verdict": "suspect", "seconds": 2.25},
    ]  # fmt: skip
    return {
        "ensemble": "adp", "eps": 8 / 255, "norm": "linf", "before": 0.116, "verdict_before": "suspect",
        "path": steps, "robust_accuracy": 0.087, "verdict": "suspect", "left": ["fusion-swap"],
    }  # fmt: skip


def make() -> Results:
    ensembles = [
        {"id": i, "defense": i, "params": {"alpha": 2.0} if i == "adp" else {}, "arch": "small_resnet", "members": 3,
         "weights_sha256": "ab" * 32, "accuracy": 0.992, "member_accuracy": [0.981, 0.985, 0.979]}
        for i in ("adp", "baseline")  # the baseline is not the first in the file
    ]  # fmt: skip
    evaluations = [
        evaluation(i, label, eps, robust)
        for i, by in ROBUST.items() for label, row in by.items() for eps, robust in zip(EPS, row, strict=True)
    ]  # fmt: skip
    bad: Check = {
        "name": "finite-gradients",
        "passed": False,
        "value": 0.02,
        "threshold": 0.0,
        "advice": "Find the NaN first.",
    }
    evaluations[11] |= {"verdict": "invalid", "checks": [bad]}  # baseline, fgsm, targeted, 0.05
    worst = [
        {"ensemble": i, "eps": eps, "norm": "linf", "robust_accuracy": round(by["pgd-100"][at] * 0.75, 3),
         "ci95": [by["pgd-100"][at] * 0.7, by["pgd-100"][at] * 0.8],
         **({"verdict": "suspect", "checks": [PASSED, SWAPPED]} if (i, at) == ("adp", 1) else
            {"verdict": "trusted", "checks": [PASSED]})}
        for i, by in ROBUST.items() for at, eps in enumerate(EPS)
    ]  # fmt: skip
    matrices = [
        transfer(i, offset, targeted, metric)
        for i, offset in (("adp", 0.31), ("baseline", 0.02))
        for targeted, metric in ((False, "accuracy"), (True, "success-rate"), (False, "accuracy-common-correct"))
    ]
    return {
        "schema_version": 1, "robustkit_version": "0.1.0", "seed": 0,
        "environment": {"python": "3.12.1", "torch": "2.6.0", "device": {"name": "cpu", "threads": 2}},
        "dataset": {"name": "digits", "split": "test", "n": N, "classes": list("0123456789"), "sha256": "cd" * 32},
        "ensembles": ensembles, "evaluations": evaluations, "worst_case": worst, "transfer": matrices,
        "minimum_norm": [minimum("baseline", 0.4375, 0.875), minimum("adp", None, 0.375)],
        "escalation": [escalation()],
        "surrogates": [], "audit": [], "detection": [], "ood": [], "calibration": [], "corruptions": [],
        "diversity": [], "pools": [],
    }  # type: ignore[typeddict-item]  # fmt: skip


@pytest.fixture
def results() -> Results:
    return copy.deepcopy(make())


@pytest.fixture(scope="module")
def unchanged() -> Results:
    """Return the same, for what a module makes of it once and only reads."""
    return make()


@pytest.fixture
def empty() -> Results:
    """Return what a run looks like in which nothing was evaluated."""
    value: dict[str, Any] = dict(make())
    for key in ("ensembles", "evaluations", "worst_case", "transfer", "minimum_norm", "escalation"):
        value[key] = []
    return value  # type: ignore[return-value]

"""The model-info JSON of the RobustBench leaderboard (github.com/RobustBench/robustbench, ``model_info/``)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from robustkit.records.schema import CorruptionResult, EnsembleResult, Results, WorstCase
from robustkit.reports import _format as f
from robustkit.reports import report
from robustkit.reports._checks import headline_budget
from robustkit.reports._files import write_text
from robustkit.reports._labels import budget, budget_text, ordered

FOLDER = "robustbench"
THREATS = {"linf": "Linf", "l2": "L2"}
# At which budgets the leaderboard ranks; elsewhere the one that the report quotes, if it has one of that norm.
STANDARD = {("cifar", "linf"): 8 / 255, ("cifar", "l2"): 0.5, ("imagenet", "linf"): 4 / 255}
SUITES = ("cifar-c", "imagenet-c")
DOUBTED = ("suspect", "invalid")


@report("robustbench", title="RobustBench entries")
def robustbench(results: Results, out: Path) -> list[Path]:
    """Write ``robustbench/DATASET/THREAT/ID.json`` for each ensemble and threat model: Linf, L2, corruptions.

    ``link``, ``authors`` and ``venue`` are for its author to fill in. ``autoattack_acc`` is there where AutoAttack ran
    (``--attacks autoattack``); ``external`` is the worst case over all attacks.
    """
    written, taken = [], set[str]()
    names = {e["id"]: f.unique(f.slug(e["id"]), taken) for e in ordered(results)}  # two ids may be one file's name
    for threat, ensemble, entry in entries(results):
        path = out / FOLDER / f.slug(results["dataset"]["name"]) / threat / f"{names[ensemble]}.json"
        written.append(write_text(path, json.dumps(entry, indent=2, ensure_ascii=False) + "\n"))
    return written


def entries(results: Results) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the threat model, the ensemble's id and the entry of each."""
    for e in ordered(results):
        own = [w for w in results["worst_case"] if w["ensemble"] == e["id"]]
        for norm, threat in THREATS.items():
            if quoted := _quoted(results, [w for w in own if w["norm"] == norm], norm):
                yield threat, e["id"], _attacked(results, e, quoted)
        for c in results["corruptions"]:
            if c["ensemble"] == e["id"] and c["suite"] in SUITES:
                yield "corruptions", e["id"], _corrupted(results, e, c)


def _quoted(results: Results, worst: list[WorstCase], norm: str) -> WorstCase | None:
    """Return the worst case at the leaderboard's budget, else at the report's, else at the largest."""
    family = "cifar" if results["dataset"]["name"].startswith("cifar") else results["dataset"]["name"]
    at = headline_budget(results)
    wanted = [STANDARD.get((family, norm)), at[0] if at and at[1] == norm else None]
    for eps in wanted:
        for w in worst:
            if eps is not None and abs(w["eps"] - eps) < 1e-6:
                return w
    return max(worst, key=lambda w: w["eps"], default=None)


def _common(results: Results, e: EnsembleResult) -> dict[str, Any]:
    recipe = (e.get("training") or {"recipe": {}})["recipe"]
    several = e["members"] > 1
    return {
        "link": "", "name": e["id"], "authors": "",
        # Null where nobody said what it was trained on, as of the models of others.
        "additional_data": bool(recipe["outliers_sha256"]) if "outliers_sha256" in recipe else None,
        "number_forward_passes": e["members"], "dataset": results["dataset"]["name"], "venue": "",
        "architecture": f"{e['arch']} ({e['members']}x ensemble)" if several else e["arch"],
    }  # fmt: skip


def _attacked(results: Results, e: EnsembleResult, worst: WorstCase) -> dict[str, Any]:
    here = [x for x in results["evaluations"] if x["ensemble"] == e["id"] and budget(x) == budget(worst)]
    standard = [x["robust_accuracy"] for x in here if x["attack"] == "autoattack"]
    n = results["dataset"]["n"]
    note = (
        f"Worst case over {len(here)} attacks on {n} images by robustkit {results['robustkit_version']}, 95 % interval "
        f"{f.interval(worst['ci95'])}; verdict: {worst['verdict']}."
    )
    return {
        **_common(results, e), "eps": budget_text(worst["eps"], "linf"), "clean_acc": _percent(e["accuracy"]),
        "reported": _percent(worst["robust_accuracy"]),
        **({"autoattack_acc": _percent(min(standard))} if standard else {}),
        "external": _percent(worst["robust_accuracy"]), "footnote": note, "unreliable": worst["verdict"] in DOUBTED,
    }  # fmt: skip


def _corrupted(results: Results, e: EnsembleResult, c: CorruptionResult) -> dict[str, Any]:
    # ImageNet's entries tell its usual corruptions (2d) from others, and have their error beside AlexNet's.
    suffix = "_2d" if c["suite"] == "imagenet-c" else ""
    alexnet = suffix and c["mce"] is not None and c["reference"] == "alexnet"
    return {
        **_common(results, e), "eps": None, "clean_acc": _percent(e["accuracy"]), "reported": "",
        f"corruptions_acc{suffix}": _percent(c["accuracy"]),
        **({"corruptions_mce_2d": f"{c['mce']:.2f}"} if alexnet else {}),
    }  # fmt: skip


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"

"""A model card as the Hugging Face Hub reads it: Markdown with a ``model-index`` of the numbers in front of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from robustkit.base.budgets import union_text
from robustkit.records.schema import EnsembleResult, Results
from robustkit.reports import _format as f
from robustkit.reports import report
from robustkit.reports._files import write_text
from robustkit.reports._labels import budget, budget_text, labeller, ordered
from robustkit.reports._suite_audit import not_tested
from robustkit.reports.md import escape

FOLDER = "cards"
HUB = {  # what datasets are called on the Hub
    "cifar10": "uoft-cs/cifar10", "cifar100": "uoft-cs/cifar100", "mnist": "ylecun/mnist",
    "fashionmnist": "zalando-datasets/fashion_mnist", "svhn": "ufldl-stanford/svhn",
}  # fmt: skip
TASK = "image-classification"


@report("card", title="Hugging Face model card")
def card(results: Results, out: Path) -> list[Path]:
    """Write ``cards/ID/README.md`` for each ensemble: metadata with every worst case, then the same for people.

    The licence is for its author to add.
    """
    taken = set[str]()
    return [
        write_text(
            out / FOLDER / f.unique(f.slug(e["id"]), taken) / "README.md",
            f"---\n{yaml(metadata(results, e))}---\n\n{body(results, e)}",
        )
        for e in ordered(results)
    ]


def metadata(results: Results, e: EnsembleResult) -> dict[str, Any]:
    """Return the metadata of the card (specification: huggingface/hub-docs, ``modelcard.md``)."""
    data = results["dataset"]
    metrics: list[dict[str, Any]] = [
        {"type": "accuracy", "value": round(e["accuracy"], 6), "name": "Accuracy without an attack"}
    ]
    for w in results["worst_case"]:
        if w["ensemble"] == e["id"]:
            name = f"Robust accuracy, worst of all attacks, eps {budget_text(*budget(w))} ({w['norm']})"
            args = {
                "eps": w["eps"],
                "norm": w["norm"],
                "verdict": w["verdict"],
                "ci95": [round(x, 6) for x in w["ci95"]],
            }
            metrics.append({"type": "accuracy", "value": round(w["robust_accuracy"], 6), "name": name, "args": args})
    for u in results.get("union", ()):
        if u["ensemble"] == e["id"]:
            name = f"Robust accuracy, worst of all attacks in all norms, eps {union_text(u['budgets'])}"
            args = {
                "budgets": dict(u["budgets"]), "verdict": u["verdict"], "ci95": [round(x, 6) for x in u["ci95"]],
            }  # fmt: skip
            metrics.append({"type": "accuracy", "value": round(u["robust_accuracy"], 6), "name": name, "args": args})
    for c in results["corruptions"]:
        if c["ensemble"] == e["id"]:
            name = f"Accuracy under natural corruptions, {c['suite']}"
            metrics.append({"type": "accuracy", "value": round(c["accuracy"], 6), "name": name})
    known = HUB.get(data["name"])
    dataset = {"type": known or f.slug(data["name"]), "name": data["name"], "split": data["split"]}
    result = {"task": {"type": TASK, "name": "Image Classification"}, "dataset": dataset, "metrics": metrics}
    return {
        "library_name": "robustkit", "pipeline_tag": TASK, "tags": ["adversarial-robustness", "ensemble", "robustkit"],
        **({"datasets": [known]} if known else {}), "metrics": ["accuracy"],
        "model-index": [{"name": e["id"], "results": [result]}],
    }  # fmt: skip


def body(results: Results, e: EnsembleResult) -> str:
    """Return what people read below the metadata."""
    data, parts = results["dataset"], [f"# {escape(e['id'])}"]
    many = f"An ensemble of {e['members']} classifiers" if e["members"] > 1 else "A classifier"
    fused = f", fused by {e['fusion']}" if e["members"] > 1 and "fusion" in e else ""
    defence = f"{e['defense']}, {f.settings_text(e['params'])}" if e["params"] else e["defense"]
    parts.append(escape(f"{many} ({e['arch']}){fused}; defence: {defence}."))
    parts.append(
        f"## Robustness\n\nOf {data['n']} images of {data['name']}, {data['split']} split, "
        f"{f.percent(e['accuracy'])} % are classified right without an attack. What is left of them where every attack "
        "that ran has had its try, with Wilson's 95 % interval and whether the checks of the number passed; stronger "
        "attacks can only lower it:"
    )
    parts.append("\n".join(_worst(results, e)) or "Nothing was attacked.")
    if trained := e.get("training"):
        recipe = trained["recipe"].items()
        parts.append("## Training\n\n" + "\n".join(f"- {name}: {f.plain(value)}" for name, value in recipe))
    parts.append("## What was not tested\n\n" + "\n".join(f"- {text}" for text in not_tested(results)))
    parts.append("## Where the numbers are from\n\n" + "\n".join(f"- {text}" for text in _origin(results, e)))
    return "\n\n".join(parts) + "\n"


def _worst(results: Results, e: EnsembleResult) -> Iterator[str]:
    label = labeller(results)
    own = [w for w in results["worst_case"] if w["ensemble"] == e["id"]]
    if own:
        yield "| eps | worst case % | verdict | strongest single attack |\n| :--- | ---: | :--- | :--- |"
    for w in own:
        here = [x for x in results["evaluations"] if x["ensemble"] == e["id"] and budget(x) == budget(w)]
        best = min(here, key=lambda x: x["robust_accuracy"], default=None)
        share = f"{f.percent(w['robust_accuracy'])} {f.interval(w['ci95'])}"
        yield f"| {budget_text(*budget(w))} | {share} | {w['verdict']} | {label(best) if best else f.NONE} |"
    for u in results.get("union", ()):
        if u["ensemble"] == e["id"]:
            share = f"{f.percent(u['robust_accuracy'])} {f.interval(u['ci95'])}"
            yield f"| all of {union_text(u['budgets'])} | {share} | {u['verdict']} | {f.NONE} |"


def _origin(results: Results, e: EnsembleResult) -> Iterator[str]:
    yield f"robustkit {results['robustkit_version']}, seed {results['seed']}"
    if run := results.get("run"):
        yield f"`{run['command']}`, finished {run['finished'] or f.NONE}"
    yield f"SHA-256 of the images and labels: {results['dataset']['sha256']}"
    yield f"SHA-256 of the weights: {e['weights_sha256']}"


def yaml(value: Any, indent: int = 0) -> str:
    """Return plain JSON as block YAML; every text is quoted as JSON does it, which YAML reads alike."""
    pad = " " * indent
    if isinstance(value, dict) and value:
        return "".join(f"{pad}{key}:{_under(inner, indent + 2)}" for key, inner in value.items())
    if isinstance(value, list) and value:
        return "".join(f"{pad}-{_item(inner, indent + 2)}" for inner in value)
    return f"{pad}{_scalar(value)}\n"


def _scalar(value: Any) -> str:
    # YAML 1.1 reads 2e-05 as a text: it wants a point before the exponent.
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(r"^(-?\d+)e", r"\1.0e", text) if isinstance(value, float) else text


def _under(value: Any, indent: int) -> str:
    nested = isinstance(value, dict | list) and value
    return f"\n{yaml(value, indent)}" if nested else f" {_scalar(value)}\n"


def _item(value: Any, indent: int) -> str:
    nested = isinstance(value, dict | list) and value
    return f" {yaml(value, indent).lstrip()}" if nested else f" {_scalar(value)}\n"

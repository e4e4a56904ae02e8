"""What a report says of how its numbers came about: settings, versions, hashes, the machine."""

from __future__ import annotations

from typing import Any

from robustkit.records.schema import Results
from robustkit.reports import _format as f
from robustkit.reports._labels import budget, budget_text, labeller


def settings(results: Results) -> list[tuple[str, str]]:
    """Return the settings of every ensemble and attack, each once."""
    label = labeller(results)
    found = [(f"ensemble {e['id']}", f.settings_text(e["params"])) for e in results["ensembles"]]
    for one in results["ensembles"]:
        if trained := one.get("training"):
            found.append((f"training of {one['id']}", f.settings_text(trained["recipe"])))
    at: dict[tuple[str, str, str], list[str]] = {}  # equal settings of an attack at several budgets: once
    for e in results["evaluations"]:
        of = (label(e), f" ({e['backend']})", f.settings_text(e["params"]))
        at.setdefault(of, []).append(budget_text(*budget(e)))
    for t in results["transfer"]:
        at.setdefault((f"transfer: {label(t)}", "", f.settings_text(t["params"])), []).append(budget_text(*budget(t)))
    found += [(f"{name} at {', '.join(dict.fromkeys(budgets))}{by}", text) for (name, by, text), budgets in at.items()]
    return list(dict.fromkeys(found))


def facts(results: Results) -> list[tuple[str, str]]:
    """Return what identifies this run: versions, seed, hashes, machine."""
    found = [
        ("robustkit", results["robustkit_version"]),
        ("schema version", str(results["schema_version"])),
        ("seed", str(results["seed"])),
        ("data sha256", results["dataset"]["sha256"]),
    ]
    if "image_size" in results["dataset"]:
        found.append(("image size", results["dataset"]["image_size"]))
    if run := results.get("run"):
        found += [("command", run["command"]), ("started", run["started"]), ("finished", run["finished"] or f.NONE)]
        found += [(f"version of {name}", number) for name, number in run["versions"].items()]
    found += [(f"fusion rule of {e['id']}", e["fusion"]) for e in results["ensembles"] if "fusion" in e]
    found += [(f"weights sha256 of {e['id']}", e["weights_sha256"]) for e in results["ensembles"]]
    files = [(e["id"], file) for e in results["ensembles"] if (file := e.get("checkpoint"))]
    found += [(f"checkpoint of {name}", f"{file['path']}, sha256 {file['sha256']}") for name, file in files]
    return found + _flat(results["environment"], "")


def _flat(value: dict[str, Any], prefix: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, inner in value.items():
        name = prefix + str(key)
        found += _flat(inner, f"{name}.") if isinstance(inner, dict) else [(name, f.plain(inner))]
    return found

"""The report for people: one self-contained HTML file."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robustkit.records.schema import Results, WorstCase
from robustkit.reports import _comparisons, _suite_audit, _suites, report
from robustkit.reports import _format as f
from robustkit.reports._checks import Headline, by_check, headline_budget, headlines
from robustkit.reports._files import write_text
from robustkit.reports._labels import beside_baseline, budget, budget_text, groups_of, labeller
from robustkit.reports._over_seeds import EACH, SIGN
from robustkit.reports._page import page
from robustkit.reports._table import Table
from robustkit.reports._tables import find, tables

EACH_SEED = tuple(f"{name}-{EACH}" for name in ("ensembles", "robustness", "worst-case", "minimum-norm"))


@report("html", title="HTML report")
def html(results: Results, out: Path) -> list[Path]:
    """Write ``report.html``: one file with everything inside, nothing loaded from elsewhere, no scripts."""
    from robustkit.reports._figures import drawings

    every = tables(results)
    pictures = [
        {"kind": d.kind, "alt": d.alt, "source": _embedded("image/svg+xml", d.svg())} for d in drawings(results)
    ]
    text = page(
        "report.html.j2",
        results=results,
        scope=_scope(results),
        headlines=list(headlines(results)),
        takeaway=_takeaway(results, list(headlines(results))),
        groups=by_check(results),
        tables={table.name: table for table in every},
        each_seed=[table for table in every if table.name in EACH_SEED],
        audit=_audit(results),
        sections=_sections(results, out, every, pictures),
        pictures=pictures,
        settings=_settings(results),
        facts=_facts(results),
    )
    return [write_text(out / "report.html", text)]


def _sections(results: Results, out: Path, every: list[Table], pictures: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Return for each further suite that ran its tables, the one that bears its name first, figures and sheets."""
    found = []
    for name in _suites.SUITES:
        table = find(every, name)
        if table:
            found.append({
                "name": name,
                "table": table,
                "details": [t for t in every if t.name.startswith(f"{name}-")],
                "pictures": [p for p in pictures if p["kind"] == name],
                "sheets": [
                    {"title": s.title, "alt": s.alt, "source": _embedded("image/png", s.file.read_bytes())}
                    for s in _suites.sheets(results, name, out)
                ],
            })  # fmt: skip
    return found


def _audit(results: Results) -> dict[str, list[str]] | None:
    """Return what the first page says of other people's models: how they were run, concerns, what was not tested."""
    if not results["audit"]:
        return None
    about = {
        "run": _suite_audit.brief, "concerns": _suite_audit.concerns, "outside": _suite_audit.from_outside,
        "untested": _suite_audit.not_tested,
    }  # fmt: skip
    return {name: phrases(results) for name, phrases in about.items()}


def _embedded(kind: str, content: bytes) -> str:
    return f"data:{kind};base64," + base64.b64encode(content).decode()


def _scope(results: Results) -> list[str]:
    """Return what was evaluated, in a few phrases."""
    label, data = labeller(results), results["dataset"]
    budgets = sorted({budget(e)[::-1] for e in results["evaluations"]})
    attacks = dict.fromkeys(label(e) for e in results["evaluations"])
    phrases = [f"{data['name']}, {data['split']} split, n = {data['n']}, {len(data['classes'])} classes"]
    phrases += ["attacks: " + "; ".join(attacks)] if attacks else []
    phrases += ["eps " + ", ".join(budget_text(eps, norm) for norm, eps in budgets)] if budgets else []
    return phrases


def _takeaway(results: Results, lines: list[Headline]) -> list[str]:
    """Return the result in sentences: every defence beside the baseline at the headline budget."""
    at, against = headline_budget(results), "Against the worst of all attacks, eps "
    worst = {h.ensemble["id"]: h.worst for h in lines if h.worst}
    pairs = {i: plain for i, plain in beside_baseline(results).items() if i in worst and plain in worst}
    if at is None:
        return []
    if groups := groups_of(results):
        return _over_seeds(results, at, groups)
    rows = {row["ensemble"]: row for row in _comparisons.of_worst_cases(results.get("comparisons", []), *at)}
    return [
        f"{against}{budget_text(*at)}, {i} keeps {_share(worst[i])}, {plain} {_share(worst[plain])}: "
        + (
            _comparisons.told_text(rows[i])
            if i in rows
            else f"{f.points(worst[i]['robust_accuracy'] - worst[plain]['robust_accuracy'])} points."
        )
        for i, plain in pairs.items()
    ]


def _over_seeds(results: Results, at: tuple[float, str], groups: Mapping[str, Any]) -> list[str]:
    """Return the worst case of every defence at a budget, over seeds, then the differences."""
    against = f"Against the worst of all attacks, eps {budget_text(*at)}, "
    kept = [
        f"{against}{o['group']} keeps {f.percent(o['mean'])} {SIGN} "
        f"{f.percent(o['std'])} % (mean {SIGN} standard deviation over {len(o['seeds'])} seeds; over samples "
        f"{f.interval(o['ci95'])})."
        for o in results.get("over_seeds", [])
        if o["metric"] == "worst_case" and (o["eps"], o["norm"]) == at and o["group"] in groups
    ]
    differences = [
        f"{against}over {len(row['seeds'])} seeds, {row['ensemble']} minus {row['reference']}: "
        + _comparisons.told_text(row)
        for row in _comparisons.of_worst_cases(results.get("comparisons_over_seeds", []), *at)
    ]
    return [*kept, *differences]


def _share(w: WorstCase) -> str:
    return f"{f.percent(w['robust_accuracy'])} % {f.interval(w['ci95'])}"


def _settings(results: Results) -> list[tuple[str, str]]:
    """Return the settings of every ensemble and attack, each once."""
    label = labeller(results)
    found = [(f"ensemble {e['id']}", f.settings_text(e["params"])) for e in results["ensembles"]]
    for one in results["ensembles"]:
        if trained := one.get("training"):
            found.append((f"training of {one['id']}", f.settings_text(trained["recipe"])))
    for e in results["evaluations"]:
        found.append((f"{label(e)} at {budget_text(*budget(e))} ({e['backend']})", f.settings_text(e["params"])))
    for t in results["transfer"]:
        found.append((f"transfer: {label(t)} at {budget_text(*budget(t))}", f.settings_text(t["params"])))
    return list(dict.fromkeys(found))


def _facts(results: Results) -> list[tuple[str, str]]:
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

"""Other people's models in a report: what was detected and assumed, and what was not tested."""

from __future__ import annotations

from collections.abc import Iterator

from robustkit.base.names import THREAT_NORMS
from robustkit.records.schema import Results, Transfer
from robustkit.records.schema_suites import AuditResult
from robustkit.reports import _format as f
from robustkit.reports._labels import budget, budget_text, labeller
from robustkit.reports._table import Table, cells

# What no evaluation of stored images can show, whatever it runs.
NEVER = (
    "backdoors and poisoned training data (no trigger is known to look for)",
    "images from anywhere but this dataset and what was made of them",
    "threats other than small changes of pixels (patches, rotations, physical objects)",
)
SUITES = {
    "transfer": "transfer between the members",
    "corruptions": "natural corruptions",
    "detection": "detection of adversarial images",
    "ood": "images from elsewhere (out-of-distribution)",
    "calibration": "calibration of the probabilities",
    "diversity": "diversity of the members",
}


def tables(results: Results) -> Iterator[Table]:
    """Yield the findings of every member, then the files, then the ways that were tried."""
    rows = [
        cells(_member(a, results), x["what"], x["value"], x["how"] + (" (!)" if x["concern"] else ""), x["evidence"])
        for a in results["audit"]
        for x in a["findings"]
    ]
    columns = ["member", "what", "value", "how", "evidence"]
    note = "(!) is a reason to doubt every number below. What was detected can be overridden (docs/audit.md)."
    yield Table("audit", "What was found out about the model", columns, "lllll", rows, note, 2, True)
    columns = ["member", "file", "format", "where", "architecture", "parameters", "sha256", "notes"]
    rows = [
        cells(
            _member(a, results), a["path"], a["format"], a["where"], a["arch"], f"{a['parameters']:,}", a["sha256"],
            " ".join(a["notes"]),
        )
        for a in results["audit"]
    ]  # fmt: skip
    yield Table("audit-files", "The files", columns, "lllllrll", rows)
    columns = ["member", "normalisation", "order", "times", "size", "n", "accuracy %", "log-likelihood", "divergence"]
    rows = [
        cells(
            _member(a, results), t["normalize"], t["how"]["order"], f.number(t["how"]["scale"]),
            "x".join(map(str, t["how"]["size"] or ())) or "as it is", str(t["n"]), f.percent(t["accuracy"]),
            f.number(t["log_likelihood"]), f.number(t["divergence"]),
        )
        for a in results["audit"]
        for t in a["trials"]
    ]  # fmt: skip
    note = (
        "Every way in which the model was run on clean images, the one that was taken first. Divergence, in nats: how "
        "far the pixels are from those that the first batch norm was trained on."
    )
    yield Table("audit-trials", "Ways to run the model that were tried", columns, "lllllrrrr", rows, note, 2, True)


def concerns(results: Results) -> list[str]:
    """Return the findings that are a reason to doubt the numbers, a phrase each."""
    return [
        f"{_member(a, results)}: {x['what']} is {x['value']} ({x['evidence']})"
        for a in results["audit"]
        for x in a["findings"]
        if x["concern"]
    ] + list(_masked(results))


def brief(results: Results) -> list[str]:
    """Return how each member was run, a phrase each."""
    shown = ("output", "normalisation", "pixel range", "channel order", "channels", "input size", "outputs")
    return [
        f"{_member(a, results)}: {a['arch']} from a {a['format']} ({a['sha256'][:12]}), "
        + ", ".join(f"{x['what']} {x['value']} ({x['how']})" for x in a["findings"] if x["what"] in shown)
        for a in results["audit"]
    ]


def from_outside(results: Results) -> list[str]:
    """Return what attacks that saw an independent model did to the audited ones, a phrase for each attack."""
    label, by_name = labeller(results), {f"surrogate {s['id']}": s for s in results["surrogates"]}
    return [
        f"{label(t)} at eps {budget_text(*budget(t))}, crafted on {s['id']} ({s['members']} x {s['arch']}, itself "
        f"right on {f.percent(s['accuracy'])} % of the images), leaves {t['ensemble']} {f.percent(accuracy)} % right"
        for t, source, accuracy in _outside(results)
        for s in [by_name[source]]
    ]


def _outside(results: Results) -> Iterator[tuple[Transfer, str, float]]:
    """Yield the untargeted attacks from independent models: matrix, row, accuracy of the fused ensemble."""
    for t in results["transfer"]:
        for source, row in zip(t["sources"], t["matrix"], strict=True):
            if t["metric"] == "accuracy" and source not in t["targets"]:
                yield t, source, row[-1]


def _masked(results: Results) -> Iterator[str]:
    """Yield attacks from outside that did clearly more than those on the model itself at that eps or a larger one."""
    for t, source, accuracy in _outside(results):
        eps, norm = budget(t)
        for w in results["worst_case"]:
            stronger = w["ensemble"] == t["ensemble"] and w["norm"] == norm and w["eps"] >= eps
            if stronger and accuracy < w["ci95"][0]:
                yield (
                    f"{t['ensemble']}: {t['attack']} crafted on {source} leaves {f.percent(accuracy)} % right at eps "
                    f"{budget_text(eps, norm)}, the attacks on the model itself {f.percent(w['robust_accuracy'])} % at "
                    f"{budget_text(w['eps'], norm)}: they do not find what is there, its gradients may be masked"
                )
                break


def not_tested(results: Results) -> list[str]:
    """Return what a reader might take to be tested and is not."""
    found = [text for name, text in SUITES.items() if not _ran(results, name)]
    found += [] if list(_outside(results)) else ["transfer from an independent model (--surrogate)"]
    if any(e["members"] == 1 for e in results["ensembles"]):
        found = [text for text in found if text not in (SUITES["transfer"], SUITES["diversity"])]
    budgets = sorted({budget(e)[::-1] for e in results["evaluations"]})
    largest = dict(budgets)  # by norm the last, which is the largest
    if largest:
        found.append("perturbations larger than eps " + ", ".join(budget_text(eps, n) for n, eps in largest.items()))
    found += [f"perturbations that are small in {norm}" for norm in THREAT_NORMS if norm not in largest]
    return found + list(NEVER)


def _ran(results: Results, name: str) -> bool:
    return bool(results[name])  # type: ignore[literal-required]


def _member(audited: AuditResult, results: Results) -> str:
    alone = sum(a["ensemble"] == audited["ensemble"] for a in results["audit"]) == 1
    return audited["name"] if alone else f"member {audited['member']}, {audited['name']}"

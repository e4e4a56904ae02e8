"""Failing trust checks and missed gates as SARIF 2.1.0 (OASIS), which code-scanning services show beside the code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from robustkit.base.version import __version__
from robustkit.gates.judging import Outcome
from robustkit.gates.numbers import Number, numbers_of
from robustkit.records.schema import Verdict
from robustkit.reports import _format as f
from robustkit.trust import check

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
LEVELS: dict[Verdict, str] = {"trusted": "none", "unchecked": "note", "suspect": "warning", "invalid": "error"}
STRONGEST = "strongest-run"  # of a worst case, by no check of its own
OTHERS = {
    STRONGEST: ("The strongest run behind a worst case is not worse rated than the worst case.", "suspect"),
    "threshold": ("A number is what --min requires.", "invalid"),
    "verdict": ("A number has the verdict that --require names.", "invalid"),
    "baseline": ("No number fell since the baseline.", "invalid"),
}


def text(outcome: Outcome) -> str:
    """Return the log: a rule for each trust check, its level by the verdict that it leaves, a result a failing one."""
    rules = list(_rules())
    place = {rule["id"]: at for at, rule in enumerate(rules)}
    results = [*_checks(outcome), *_gates(outcome)]
    for result in results:
        if result["ruleId"] in place:  # a check of another version has no rule here
            result["ruleIndex"] = place[result["ruleId"]]
    driver = {"name": "robustkit", "version": __version__, "semanticVersion": __version__, "rules": rules}
    run = {"tool": {"driver": driver}, "results": results, "columnKind": "unicodeCodePoints"}
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1, allow_nan=False) + "\n"


def _rules() -> Iterator[dict[str, Any]]:
    said = {entry.name: (entry.summary, entry.facts.get("leaves", "suspect")) for entry in check}
    for name, (summary, leaves) in {**said, **OTHERS}.items():
        yield {
            "id": name,
            "name": "".join(word.capitalize() for word in name.split("-")),
            "shortDescription": {"text": summary},
            "help": {"text": f"{summary} Where it fails, the number is {leaves}: docs/trust.md, docs/gates.md."},
            "defaultConfiguration": {"level": LEVELS[leaves]},
        }


def _checks(outcome: Outcome) -> Iterator[dict[str, Any]]:
    leaves: dict[str, Verdict] = {entry.name: entry.facts.get("leaves", "suspect") for entry in check}
    for number in numbers_of(outcome.results):
        for one in number.checks:
            if not one["passed"]:
                value = f"{f.number(one['value'])}, threshold {f.number(one['threshold'])}"
                said = f"{number}. {one['name']}: {value}. {one['advice']}".strip()
                # What no registered check leaves is the verdict of the number itself.
                verdict = leaves.get(one["name"], number.verdict or "suspect")
                yield _result(outcome, one["name"], LEVELS[verdict], said, _place(number))


def _gates(outcome: Outcome) -> Iterator[dict[str, Any]]:
    for gate in outcome.missed:
        yield _result(outcome, gate.kind, "error", gate.said, f"{gate.ensemble}/{gate.what}/{gate.required}")


def _place(number: Number) -> str:
    return f"{number.ensemble}/{number.what}"


def _result(outcome: Outcome, rule: str, level: str, said: str, place: str) -> dict[str, Any]:
    file = {"artifactLocation": {"uri": _uri(outcome.path)}, "region": {"startLine": 1}}
    where = {"physicalLocation": file, "logicalLocations": [{"fullyQualifiedName": place}]}
    mark = hashlib.sha256(f"{rule}\n{place}".encode()).hexdigest()
    return {
        "ruleId": rule, "level": level, "message": {"text": said}, "locations": [where],
        "partialFingerprints": {"number/v1": mark},
    }  # fmt: skip


def _uri(path: Path) -> str:
    """Return where the file lies, as a URI: from here, as a service wants it that looks below the repository's root."""
    whole, here = path.resolve(), Path.cwd()
    return quote(whole.relative_to(here).as_posix()) if whole.is_relative_to(here) else whole.as_uri()

"""LaTeX of every kind of report compiles and is sound, whatever classes, ensembles, attacks and files are called."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import latex_reader as reader
import pytest
from latex_engine import ENGINES, compiled

from robustkit.records.schema import Results
from robustkit.reports import write

STORED = Path(__file__).parents[1] / "web" / "stored"
KINDS = ("main", "suites", "audit", "pool", "seeds")
# What LaTeX reads as commands, what no font of pdflatex has, and a name without a place to break it.
ODD = ("100%_a&b", "$x^2${}", r"\input{~/#1}", "é漢Ω\u2028", "🐈‍⬛ -- <a>|\"'`", "a_b-C9" * 9, "[x]", "*", "^^A\t%")


def renamed(value: Any, names: dict[str, str]) -> Any:
    """Return JSON in which every string that is one of the names is another, and every path ends in odd letters."""
    if isinstance(value, dict):
        return {names.get(key, key): renamed(own, names) for key, own in value.items()}
    if isinstance(value, list):
        return [renamed(own, names) for own in value]
    if isinstance(value, str):
        return names.get(value, f"{value}{ODD[0]}{ODD[2]}{ODD[3]}" if value.startswith(("/", "npz:")) else value)
    return value


def odd(kind: str) -> Results:
    """Return the stored results of a kind, with odd names."""
    results = json.loads(gzip.decompress((STORED / f"{kind}.json.gz").read_bytes()))
    groups = [e["group"] for e in results["ensembles"] if e.get("group")]
    taken = [
        *(e["id"] for e in results["ensembles"]), *groups, *results["dataset"]["classes"],
        *(e["attack"] for e in results["evaluations"]), *(e["arch"] for e in results["ensembles"]),
        *(one["name"] for one in results["audit"]), results["dataset"]["name"],
    ]  # fmt: skip
    names = {name: f"{ODD[at % len(ODD)]} {at}" for at, name in enumerate(dict.fromkeys(map(str, taken)))}
    found: Results = renamed(results, names)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_odd_names_are_sound(kind: str, tmp_path: Path) -> None:
    (path,) = write(odd(kind), tmp_path, ["tex"])
    text = path.read_text("utf-8")
    assert reader.problems(text) == []
    assert r"100\%\_a\&b" in text


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS)
def test_odd_names_compile(kind: str, engine: str, tmp_path: Path) -> None:
    write(odd(kind), tmp_path, ["tex"])
    assert compiled(engine, tmp_path, ["tables/tables"]) == []

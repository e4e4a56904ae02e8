"""Tables of the pages that list what a registry has, what is written or what a file holds: neither more nor less."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from in_process import invoke
from pages import CODE, ROOT, name, pages

from robustkit import corruptions, data, ood
from robustkit.attacks import attack
from robustkit.base.names import FUSIONS
from robustkit.defenses import defense
from robustkit.metrics.scores import SCORES
from robustkit.reproduce import reproduction
from robustkit.search import method
from robustkit.trust._evidence import families

LISTED = {  # page and head of the table's first column: what stands in it, in code
    ("docs/data.md", "`--dataset`"): set(data.dataset.names()),
    ("docs/ood.md", "set"): set(ood.ood_set.names()),
    ("docs/train.md", "name"): set(defense.names()),
    ("docs/search.md", "method"): set(method.names()),
    ("docs/reproduction.md", "name"): set(reproduction.names()),
    ("docs/corruptions.md", "suite"): set(corruptions.SUITES),
    ("docs/detection.md", "score"): set(SCORES),
    ("docs/extend.md", "fact"): {fact for entry in attack for fact in entry.facts},
}


def rows(page: str, head: str) -> list[list[str]]:
    """Return the cells of a table that is known by the head of its first column."""
    lines = (ROOT / page).read_text("utf-8").splitlines()
    [at] = [i for i, line in enumerate(lines) if line.startswith(f"| {head} |") and lines[i + 1].startswith("|--")][:1]
    found = []
    for line in lines[at + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return found


@pytest.mark.parametrize("place", LISTED, ids=lambda place: place[0])
def test_a_table_lists_what_is_registered(place: tuple[str, str]):
    named = {text.partition(":")[0] for row in rows(*place) for text in CODE.findall(row[0])}
    assert named == LISTED[place], f"the table in {place[0]} under '{place[1]}' lists what is not there, or not all"


def test_families_of_attacks_are_those_that_the_attacks_state():
    text = (ROOT / "docs" / "trust.md").read_text("utf-8").partition("**Families** of attacks: ")[2].partition(";")[0]
    listed = {family: set(CODE.findall(names)) for family, names in re.findall(r"`([\w-]+)` \(([^)]*)\)", text)}
    stated: dict[str, set[str]] = {}
    for one in attack.names():
        if len(families(one)) == 1:
            stated.setdefault(families(one)[0], set()).add(one)
    for family, names in stated.items():
        assert listed.get(family) == names, f"docs/trust.md lists other attacks of family '{family}' than state it"
    assert set(listed) == set(stated)


def test_datasets_of_reproductions_are_those_that_they_have_numbers_for():
    for names, _, columns in rows("docs/reproduction.md", "name"):
        for one in CODE.findall(names):
            assert set(columns.split(", ")) == set(reproduction.entry(one).facts["datasets"]), one


def test_parameters_of_defences_that_their_table_names_exist():
    for names, text in rows("docs/train.md", "name"):
        known = {one.name for part in CODE.findall(names) for one in defense.entry(part).params}
        assert set(CODE.findall(text)) <= known, names


def test_parameters_of_searches_that_their_table_names_exist():
    for names, text, _ in rows("docs/search.md", "method"):
        [one] = CODE.findall(names)
        for parameter in CODE.findall(text):
            assert parameter in {*(known.name for known in method.entry(one).params), *method.names()}, (one, parameter)


def fields(node: Any, whole: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a schema's node and all that it may be instead."""
    if "$ref" in node:
        yield from fields(whole["$defs"][node["$ref"].rpartition("/")[2]], whole)
        return
    yield node
    for part in (*node.get("anyOf", ()), *node.get("oneOf", ()), *node.get("allOf", ())):
        yield from fields(part, whole)


def has(path: str, whole: dict[str, Any]) -> bool:
    """Return whether a schema has a field like ``evaluations[].verdict``."""
    nodes = [whole]
    for part in path.split("."):
        plain, _, index = part.partition("[")
        nodes = [
            one["properties"][plain]
            for node in nodes
            for one in fields(node, whole)
            if plain in one.get("properties", {})
        ]
        if index:
            nodes = [one["items"] for node in nodes for one in fields(node, whole) if "items" in one]
    return bool(nodes)


def test_fields_of_results_are_in_the_schema():
    whole = json.loads((ROOT / "robustkit" / "schemas" / "results.schema.json").read_text("utf-8"))
    listed = [CODE.findall(row[0]) for row in rows("docs/results.md", "field")]
    for first, *more in listed:
        start = first.rpartition(".")[0]
        for text in (first, *more):
            path = text.partition(" ")[0] if text == first else text
            assert has(path, whole) or has(f"{start}.{path}", whole), text
    tops = {
        re.split(r"[.\[]", one)[0]
        for texts in listed
        for one in (texts if texts[0] in whole["properties"] else texts[:1])
    }
    assert {key for key in whole["properties"] if key not in tops} == {"$schema"}


def test_a_field_that_is_not_is_seen():
    whole = {"properties": {"a": {"items": {"$ref": "#/$defs/A"}}}, "$defs": {"A": {"properties": {"b": {}}}}}
    assert has("a[].b", whole)
    assert not has("a[].c", whole)
    assert not has("a.b", whole)


def test_files_of_an_evaluation_are_those_of_the_table(made: Path):
    out = made / "robustkit-out"
    for row in rows("docs/evaluate.md", "file"):
        for text in CODE.findall(row[0]):
            first, *more = text.split(", ")
            for pattern in (first, *(f"{Path(first).parent}/{one}" for one in more)):
                assert list(out.glob(pattern.rstrip("/"))), pattern


def test_columns_of_samples_are_those_of_the_table(made: Path):
    head = (made / "robustkit-out" / "samples.csv").read_text("utf-8").splitlines()[0].split(",")
    text = (ROOT / "docs" / "results.md").read_text("utf-8").partition("\n## samples.csv\n")[2].partition("\n## ")[0]
    named = [text for line in text.splitlines() if line.startswith("| `") for text in CODE.findall(line.split("|")[1])]
    patterns = [re.escape(one).replace("NORM", r"\w+").replace("ATTACK", r".+").replace("EPS", r".+") for one in named]
    assert [column for column in head if not any(re.fullmatch(one, column) for one in patterns)] == []
    of_one_norm = [one for one in patterns if one != "robust_to_all"]
    assert [one for one in of_one_norm if not any(re.fullmatch(one, column) for column in head)] == []


def test_attacks_and_fusions_that_commands_name_are_registered():
    for page in pages():
        for option, value in re.findall(r"--(attacks|fusion) ([a-z][\w:,-]*)", page.read_text("utf-8")):
            names = set(value.rstrip(",").split(","))
            known = {*attack.names(), "mine", "nudge"} if option == "attacks" else set(FUSIONS)
            assert {one for one in names if ":" not in one and not one.startswith("checkpoint")} <= known, (
                page.name,
                value,
            )


@pytest.mark.parametrize("page", pages(), ids=name)
def test_what_is_said_to_be_listed_is_there(page: Path):
    for said in set(re.findall(r"robustkit list ([a-z][\w-]*)", page.read_text("utf-8"))) - {"nudge"}:
        code, _, err = invoke("list", said)
        assert code == 0, err


@pytest.mark.parametrize("page", pages(), ids=name)
def test_sessions_that_are_named_are_in_the_noxfile(page: Path):
    text = (ROOT / "noxfile.py").read_text("utf-8")
    plain = set(re.findall(r"@nox\.session\ndef (\w+)", text)) | {"tests", "lowest"}
    pythons = re.findall(r'"(3\.\d+)"', re.search(r"PYTHONS = \[(.*)\]", text)[1])
    known = plain | {f"{one}-{python}" for one in ("tests", "lowest") for python in pythons}
    for said in re.findall(r"nox -s ((?:[\w.-]+ ?)+)", page.read_text("utf-8")):
        named = said.partition(" -- ")[0].split()
        assert set(named) & known, said
        assert named[0] in known, said

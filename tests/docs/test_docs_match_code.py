"""No page says what is not so: paths, names, options, exit codes, registries and files are held against the code."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from pathlib import Path

import pytest
from pages import CODE, ROOT, commands, name, pages

from robustkit import corruptions, trust
from robustkit.base.errors import RunError, UserError
from robustkit.base.names import FUSIONS, SUITES
from robustkit.cli import COMMANDS, app
from robustkit.gates.running import FORMATS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

every_page = pytest.mark.parametrize("page", pages(), ids=name)
# What a page names that is no file of a clone: it is made by what the page says.
MADE = {
    "robustkit/attacks/nudge.py",
    "robustkit/attacks/mine.py",
    "robustkit/defenses/agree.py",
    "tests/attacks/test_nudge.py",
}
FOREIGN = {  # options of other programs that are named alone
    "--nproc-per-node", "--min-nodes", "--long", "--help", "--version", "--no-deps", "--strict", "--layer", "--keep",
}  # fmt: skip


def said(page: Path) -> list[str]:
    """Return what a page sets in code within its sentences."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)
    return CODE.findall(text)


@every_page
def test_paths_that_are_named_are_there(page: Path):
    named = {
        text
        for text in said(page)
        if re.match(r"(robustkit|tests|docs|benchmarks|findings|\.ci|\.github)/[\w./*-]*$", text)
    }
    gone = {text for text in named - MADE if "NAME" not in text and not list(ROOT.glob(text.rstrip("/")))}
    assert not gone


@every_page
def test_names_that_are_named_are_there(page: Path):
    for text in said(page):
        found = re.match(r"(robustkit(?:\.\w+)+)(?:\(|$)", text)
        if found and not found[1].endswith((".toml", ".json", ".py")):
            assert resolves(found[1]), text


def resolves(dotted: str) -> bool:
    """Return whether a dotted name is a module, or something in one."""
    parts = dotted.split(".")
    for at in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:at]))
        except ModuleNotFoundError:
            continue
        for part in parts[at:]:
            if not hasattr(value, part):
                return False
            value = getattr(value, part)
        return True
    return False


def options_of_commands() -> set[str]:
    """Return every option of every command, of ``run`` and ``validate`` too."""
    known: set[str] = set()
    for command in [*COMMANDS, "run", "validate", "list"]:
        for argument in app[command].assemble_argument_collection():
            known.update(argument.names)
    return known


@every_page
def test_options_that_are_named_exist(page: Path):
    scripts = "".join(file.read_text("utf-8") for file in (ROOT / "benchmarks").glob("*.py"))
    known = options_of_commands() | FOREIGN | set(re.findall(r'"(--[\w-]+)"', scripts))
    for text in said(page):
        if re.match(r"(ray|pip|pytest|torchrun|git|nox|mkdocs)\b", text):  # another program's
            continue
        for option in re.findall(r"(?:^|(?<=[\s(/|]))(--[a-z][\w-]*)", text):
            bare = option.replace("--no-", "--", 1)
            assert option in known or bare in known, f"{option} in `{text}`"


@every_page
def test_options_of_benchmarks_exist(page: Path):
    for one in commands(page):
        if found := re.search(r"python (benchmarks/\w+\.py)(.*)", one.text):
            source = (ROOT / found[1]).read_text("utf-8")
            assert [o for o in re.findall(r"(--[\w-]+)", found[2].split("#")[0]) if f'"{o}"' not in source] == []


def test_exit_codes_are_those_of_the_command():
    source = ast.parse((ROOT / "robustkit" / "__main__.py").read_text("utf-8"))
    codes = {0, importlib.import_module("robustkit.__main__").INTERRUPTED}
    for node in ast.walk(source):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "_stop":
            codes.add(node.args[1].value)
    assert codes == {0, 1, 2, 130}
    table = (ROOT / "docs" / "gates.md").read_text("utf-8")
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.M)} == codes
    for page in pages():
        for code in re.findall(r"exit(?:s with| code|s)? `?(\d+)\b", page.read_text("utf-8")):
            assert int(code) in codes, (page.name, code)
    assert issubclass(UserError, ValueError)
    assert issubclass(RunError, RuntimeError)


def first_column(page: str, heading: str) -> set[str]:
    """Return the names in code in the first column of the table below a heading."""
    text = (ROOT / "docs" / page).read_text("utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]
    return {found for row in rows for found in CODE.findall(row)}


def test_tables_of_registries_are_whole():
    assert first_column("trust.md", "The checks") == {*trust.check.names(), "strongest-run"}
    text = (ROOT / "docs" / "corruptions.md").read_text("utf-8")
    for suite in corruptions.SUITES:
        assert f"`{suite}`" in text, suite
    evaluate = (ROOT / "docs" / "evaluate.md").read_text("utf-8") + (ROOT / "docs" / "options.md").read_text("utf-8")
    for one in (*FUSIONS, *SUITES, *COMMANDS):
        assert one in evaluate, one
    gates = (ROOT / "docs" / "gates.md").read_text("utf-8")
    assert all(one in gates for one in FORMATS)


def test_extras_that_are_named_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    for page in pages():
        text = page.read_text("utf-8")
        for named in re.findall(r"(?:robustkit-ensembles|-e \"?\.|\"\.)\[([\w,-]+)\]", text):
            assert set(named.split(",")) <= set(extras), (page.name, named)


def test_files_that_an_evaluation_writes_are_on_the_pages(made: Path):
    text = "".join((ROOT / "docs" / page).read_text("utf-8") for page in ("evaluate.md", "results.md", "studies.md"))
    written = {path.name for path in (made / "robustkit-out").iterdir()}
    assert {"results.json", "report.html", "runs"} <= written
    assert {one for one in written if one not in text} == set()


def test_version_of_citation_and_build_is_the_release():
    import robustkit

    stated = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["version"]
    assert stated["fallback-version"] == f"{robustkit.__version__}.dev0"
    assert f"\nversion: {robustkit.__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    assert re.match(stated["tag-pattern"], f"v{robustkit.__version__}")["version"] == robustkit.__version__


def test_every_page_is_on_the_site():
    nav = (ROOT / "mkdocs.yml").read_text("utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        assert page.relative_to(ROOT / "docs").as_posix() in nav


# A cell that begins with a number: what was measured, where a number within a sentence is a parameter. And a command.
MEASURED = re.compile(r"\|[ *+-]*\d+(?:,\d{3})*(?:\.\d+)?(?: [^|]*)?(?=\|)")
FRACTION = re.compile(r"\|[ *+-]*\d+\.\d")
MAKES = re.compile(
    r"(?:^ {4}|^|`|\$ )(?:[A-Z_]+=\S+ )*(?:robustkit|python|pytest|nox|bash|\.venv/bin/\w+) [\w./-]+", re.M
)


def unnamed(text: str) -> list[str]:
    """Return the headings below which a table of measured numbers stands, with no command there nor further up.

    A command says what made a table if it stands under the same heading, or under one that this one belongs to, the
    page's title excepted; the README's first command, whose answer the page is about, is named by these words.
    """
    found, above = [], {}
    for part in re.split(r"^(?=#{1,6} )", without_files(text), flags=re.M):
        level = len(re.match(r"#*", part)[0])
        above = {depth: named for depth, named in above.items() if 1 < depth < level}
        above[level] = bool(MAKES.search(part)) or "run of the first command" in part
        rows = re.findall(r"(?<=\|\n)\|.*\|$", part, re.M)  # not the first, which is the head
        if any(FRACTION.search(row) or len(MEASURED.findall(row)) > 2 for row in rows) and not any(above.values()):
            found.append(part.splitlines()[0])
    return found


def without_files(text: str) -> str:
    """Return a page without its blocks of other things than commands, whose lines may begin like headings."""
    return re.sub(r"^```(?!bash).*?^```$", "", text, flags=re.M | re.S)


@every_page
def test_every_table_of_numbers_names_the_command_that_made_it(page: Path):
    assert unnamed(page.read_text("utf-8")) == []


def test_a_table_without_a_command_is_seen():
    table = "| n | s |\n|---|---|\n| a | 1.5 |\n"
    assert unnamed(f"# A\n\n## B\n\n    robustkit evaluate\n\n## C\n\n{table}") == ["## C"]
    assert unnamed(f"# A\n\n## B\n\nBy `python benchmarks/a.py`:\n\n{table}") == []
    assert unnamed(f"# A\n\n## B\n\n    robustkit evaluate\n\n### C\n\n{table}") == []


@every_page
def test_every_picture_names_the_command_that_made_it(page: Path):
    text = page.read_text("utf-8")
    if re.search(r"!\[.*\]\((?:docs/)?images/", text):
        assert MAKES.search(without_files(text))

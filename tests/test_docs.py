"""The documents say what the code says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import robustkit
from robustkit.base.names import DEFAULT_SUITES, SUITES
from robustkit.cli import COMMANDS, app
from robustkit.commands.listing import markdown
from robustkit.pipeline import request

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_list_of_methods_is_current():
    assert (ROOT / "docs" / "methods.md").read_text() == markdown()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_that_are_shown_exist(page: Path):
    for name, rest in re.findall(r"(?:^    |bin/|`)robustkit (\w+)((?:[^`\n]|\\\n)*)", page.read_text(), re.M):
        options = {option for argument in app[name].assemble_argument_collection() for option in argument.names}
        options.add("--help")
        assert set(re.findall(r"(--[a-z-]+)", rest.split("#")[0])) <= options, (name, rest)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_that_are_shown_make_sense(page: Path):
    """What stands on a line of its own is read by the command, and refused for nothing but files that are not here."""
    text = page.read_text().replace("\\\n", " ")
    for line in re.findall(r"^    (robustkit (?:evaluate|audit|train) [^\[\n]*)$", text, re.M):
        _, name, *words = shlex.split(line, comments=True)
        bound = app[name].parse_args(words, exit_on_error=False, print_error=False)[1]
        config = COMMANDS[name][0](**dict(zip(["models"], bound.args, strict=False)), **bound.kwargs)
        if "..." in line:
            continue
        if name == "train":
            request.check_training(config)
        else:
            request.check(config, SUITES if name == "audit" else DEFAULT_SUITES)


def test_version_is_in_the_changelog():
    assert f"## [{robustkit.__version__}]" in (ROOT / "CHANGELOG.md").read_text()

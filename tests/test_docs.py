"""The documents say what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import robustkit
from robustkit.commands.listing import markdown

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
    from robustkit.cli import app

    for name, rest in re.findall(r"(?:^    |bin/|`)robustkit (\w+)((?:[^`\n]|\\\n)*)", page.read_text(), re.M):
        options = {option for argument in app[name].assemble_argument_collection() for option in argument.names}
        assert set(re.findall(r"(--[a-z-]+)", rest.split("#")[0])) <= options, (name, rest)


def test_version_is_in_the_changelog():
    assert f"## [{robustkit.__version__}]" in (ROOT / "CHANGELOG.md").read_text()

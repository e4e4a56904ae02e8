"""The documents say what the code says."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import robustkit
from robustkit import attacks, data, models
from robustkit.auditing.in_memory import as_module
from robustkit.auditing.reading import read
from robustkit.base import options
from robustkit.base.devices import find_device
from robustkit.base.errors import UserError
from robustkit.base.names import DEFAULT_SUITES, SUITES
from robustkit.cli import COMMANDS, app
from robustkit.commands.listing import markdown
from robustkit.evaluation import executors
from robustkit.pipeline import request

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
UNPACKED = (ROOT / "PKG-INFO").exists()  # an sdist, which leaves the pictures out


def test_list_of_methods_is_current():
    assert (ROOT / "docs" / "methods.md").read_text() == markdown()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        left_out = UNPACKED and target.endswith(".png")
        assert target.startswith("https://") or left_out or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_that_are_shown_exist(page: Path):
    for name, rest in re.findall(r"(?:^    |bin/|`)robustkit (\w+)((?:[^`\n]|\\\n)*)", page.read_text(), re.M):
        options = {option for argument in app[name].assemble_argument_collection() for option in argument.names}
        options.add("--help")
        if name == "run":  # it takes those of the study's command, too
            options |= {"--dry-run", *(o for a in app["evaluate"].assemble_argument_collection() for o in a.names)}
        assert set(re.findall(r"(--[a-z-]+)", rest.split("#")[0])) <= options, (name, rest)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_that_are_shown_make_sense(page: Path, monkeypatch: pytest.MonkeyPatch):
    """What stands on a line of its own is read by the command, and refused for nothing but files that are not here."""
    monkeypatch.setattr(executors, "listening", lambda address: None)  # the clusters are nobody's
    text = page.read_text().replace("\\\n", " ")
    for line in re.findall(r"^    (robustkit (?:evaluate|audit|train) [^\[\n]*)$", text, re.M):
        _, name, *words = shlex.split(line, comments=True)
        bound = app[name].parse_args(words, exit_on_error=False, print_error=False)[1]
        config = COMMANDS[name][0](**dict(zip(["models"], bound.args, strict=False)), **bound.kwargs)
        remote = getattr(config, "executor", "local") != "local"
        if "..." in line or (remote and importlib.util.find_spec("ray") is None):  # an extra
            continue
        if name == "train":
            request.check_training(config)
        else:
            request.check(config, SUITES if name == "audit" else DEFAULT_SUITES)


def test_version_is_in_the_changelog():
    assert f"## [{robustkit.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.fixture(scope="module")
def troubleshooting() -> Any:
    """The modules that make the page, which lie beside it, and every sentence that they find."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "docs"))
        made = importlib.import_module("make_troubleshooting")
        yield made, importlib.import_module("sentences").Sentences().all()


def test_page_of_troubles_is_current(troubleshooting: tuple[ModuleType, Any]):
    made, sentences = troubleshooting
    assert made.PAGE.read_text("utf-8") == made.page(sentences), "run python docs/make_troubleshooting.py"


def pieces(node: ast.expr) -> list[str]:
    """Return the phrases that the code of a message spells out, by another way than the page's."""
    return [part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)]


def test_what_an_error_spells_out_is_on_the_page():
    page = " ".join((ROOT / "docs" / "troubleshooting.md").read_text("utf-8").split()).replace("\\<", "<").lower()
    lost = []
    for file in sorted((ROOT / "robustkit").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in (
                "UserError",
                "RunError",
                "Damaged",
                "refuse",
            ):
                for text in (piece for argument in node.args for piece in pieces(argument)):
                    # A remedy stands apart from what is wrong, and a dot behind it.
                    for phrase in re.split(r"; |: |\.$|\. ?$|^[;:] ?", " ".join(text.split())):
                        if len(phrase.split()) >= 3 and phrase.strip(" .;:('").lower() not in page:
                            lost.append(f"{file.name}: {phrase}")
    assert not lost, "\n".join(lost)


TROUBLES: dict[str, Callable[[Path], object]] = {
    "no file": lambda folder: read(folder / "gone.pth"),
    "an empty file": lambda folder: read(_written(folder, b"")),
    "text for a model": lambda folder: read(_written(folder, b"hello, hello, hello")),
    "a pickled network": lambda folder: read(_saved(folder, torch.nn.Linear(2, 2))),
    "complex weights": lambda folder: read(_saved(folder, {"w": torch.ones(2, dtype=torch.complex64)})),
    "no folder of models": lambda folder: read(folder),
    "an unknown attack": lambda folder: attacks.get("pdg"),
    "an unknown dataset": lambda folder: data.load("cifar11"),
    "no number": lambda folder: options.number("8/25 5", "eps"),
    "no module of that name": lambda folder: models.build("no_such_module:net", 3, 10),
    "no device": lambda folder: find_device("tpu"),
    "no arrays": lambda folder: data.load(f"npz:{folder / 'gone.npz'}"),
    "a class for a model": lambda folder: as_module(torch.nn.Linear),
}


def _written(folder: Path, content: bytes) -> Path:
    (folder / "m.pth").write_bytes(content)
    return folder / "m.pth"


def _saved(folder: Path, value: object) -> Path:
    torch.save(value, folder / "m.pth")
    return folder / "m.pth"


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_sentence_that_a_user_gets_is_on_the_page(troubleshooting, trouble: str, tmp_path: Path):
    with pytest.raises(UserError) as caught:
        TROUBLES[trouble](tmp_path)
    made, sentences = troubleshooting
    said = str(caught.value)
    [found, *_] = [sentence for sentence in sentences if sentence.pattern().fullmatch(said)]
    page = made.PAGE.read_text("utf-8")
    assert made.code(made.plain(found.wrong)) in page
    assert len(made.plain(found.wrong).split()) > 2
    assert found.remedy

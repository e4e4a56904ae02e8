"""The same question again is answered from what was written: nothing is computed, so nothing is loaded. No torch here.

A command that is done leaves a note beside its runs: what was asked, of which versions, machine and input files
(:mod:`robustkit.commands._question`), the size and times of every file it left, and what it would print if it were
asked again on the same screen. While all of that is as it was, the same words are answered with that text, before
anything else is imported; other words for the same question, another screen or a requirement of the numbers are
answered from ``results.json``. Whatever differs, or cannot be known without loading it, asks in the long way, which
finds its cells in the store.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from robustkit.commands import _question
from robustkit.commands._question import Stamps, stamp, unchanged

if TYPE_CHECKING:  # each takes longer than all that is done here
    from robustkit.base.configuration import Configuration
    from robustkit.reports._evaluated import EvaluationResults

NOTE = Path("runs", "answered.json")
OUT = {"evaluate": "robustkit-out", "audit": "robustkit-audit"}  # where each writes if nobody says another folder
SCREENS = 4  # of which a note keeps the text: a terminal and a file, with --quiet and without
# What Rich looks at before it prints.
TERMINAL = (
    "COLUMNS", "LINES", "TERM", "COLORTERM", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE",
    "JUPYTER_COLUMNS", "JUPYTER_LINES", "UNICODE_VERSION",
)  # fmt: skip
_TYPED: ContextVar[tuple[str, ...]] = ContextVar("_TYPED", default=())


@contextlib.contextmanager
def typed(words: Sequence[str]) -> Iterator[None]:
    """Say that what is asked inside the block is what these words of a command line say, and nothing else."""
    token = _TYPED.set(tuple(words))
    try:
        yield
    finally:
        _TYPED.reset(token)


def said_again(words: Sequence[str]) -> str | None:
    """Return what the command of these words prints where it was answered before and nothing has changed; else None."""
    said = _saying(words)
    if said is None:
        return None
    try:
        folder = Path(_out(words))
        note = json.loads((folder / NOTE).read_text("utf-8"))
        text: str = next(one["text"] for one in note["said"] if {**one, "text": ""} == said)
        same = _question.question(note["command"], note["asked"]) == note["question"]
        return text if same and unchanged(folder, note["files"]) else None
    except (OSError, ValueError, KeyError, TypeError, StopIteration):  # no note, or not one of ours
        return None


class Asked(NamedTuple):
    """What was asked as a note says it, and a digest of all that its answer depends on; None where it is not known."""

    command: str
    options: dict[str, Any]
    digest: str | None


def question(command: str, config: Configuration) -> Asked:
    """Return what a configuration asks, but what no number and no page depends on: where to, and gates."""
    from robustkit.study.options_run import GATES

    asked = {name: value for name, value in config.resolved().items() if name not in ("out", *GATES)}
    return Asked(command, asked, _question.question(command, asked))


def recall(asked: Asked, folder: Path) -> EvaluationResults | None:
    """Return the results of an equal command in this folder; None if there was none, or a file has changed since."""
    from robustkit.reports._evaluated import load_results

    try:
        note = json.loads((folder / NOTE).read_text("utf-8"))
        if asked.digest is None or note["question"] != asked.digest or not unchanged(folder, note["files"]):
            return None
    except (OSError, ValueError, KeyError, TypeError):  # no note, or not one of ours
        return None
    return load_results(folder)


def remember(asked: Asked, folder: Path, text: str | None = None) -> None:
    """Note that a folder holds the answer to a question, as its files are now.

    Not where no worker could finish an attack: the same command tries it again.

    Parameters
    ----------
    text : str or None
        What is printed here if the same words come again; None where more is to be done than to print.
    """
    from robustkit.base.files import write_json

    stamps: Stamps = {}
    (folder / NOTE).unlink(missing_ok=True)
    if asked.digest is None or _failed(folder / NOTE.parent):
        return
    try:
        if not stamp(folder, stamps):
            return
    except OSError:
        return
    note = {"question": asked.digest, "command": asked.command, "asked": asked.options, "files": stamps}
    write_json(folder / NOTE, {**note, "said": _said(text)})


def keep(folder: Path, text: str | None) -> None:
    """Add what is printed here if the same words come again to the note that answered them just now."""
    from robustkit.base.files import write_json

    if said := _said(text):
        with contextlib.suppress(OSError):  # a folder that may only be read has answered all the same
            note = json.loads((folder / NOTE).read_text("utf-8"))
            write_json(folder / NOTE, {**note, "said": [*said, *note["said"]][:SCREENS]})


def _said(text: str | None) -> list[dict[str, Any]]:
    """Return a text with the words, the folder and the screen that it is for; nothing where these are not known."""
    said = None if text is None else _saying(_TYPED.get())
    return [] if said is None else [{**said, "text": text}]


def _saying(words: Sequence[str]) -> dict[str, Any] | None:
    """Return what printing depends on beside the answer; None for words that do not say all, as those with a file."""
    if not words or words[0] not in OUT or any(word.startswith("--config") for word in words):
        return None
    if os.name == "nt" or not sys.stdout:  # a console of Windows is coloured by calls, not by what is written
        return None
    screen = [sys.stdout.isatty(), sys.stdout.encoding, *map(_size, range(3)), *map(os.environ.get, TERMINAL)]
    try:
        return {"words": [*words], "folder": os.getcwd(), "screen": screen, "text": ""}
    except OSError:  # the folder was removed
        return None


def _size(handle: int) -> list[int]:
    """Return columns and lines of a terminal, nothing of what is none."""
    try:
        return [*os.get_terminal_size(handle)]
    except OSError:
        return []


def _out(words: Sequence[str]) -> str:
    """Return the folder that words of a command line name for the report."""
    for at, word in enumerate(words):
        if word.startswith("--out="):
            return word.removeprefix("--out=")
        if word == "--out":
            return words[at + 1] if at + 1 < len(words) else ""
    return OUT[words[0]]


def _failed(runs: Path) -> bool:
    """Return whether a stored cell stands for an attack whose workers died in every try."""
    texts = (path.read_bytes() for path in runs.glob("*.json"))
    return any("failed" in json.loads(text).get("environment", {}) for text in texts if b'"failed"' in text)

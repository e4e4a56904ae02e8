r"""A column of numbers as LaTeX, aligned at the decimal points: of means, deviations, intervals and pairs alike.

What is missing beside the longest number of a column is filled with ``\phantom{0}``. siunitx would align one number in
a column; a number with its interval would take three columns under one head, ``142 : 80``, ``<.001`` and ``+2.0 / -.3``
could not be told to it at all, and bold in its columns is asked for in another way in each of its versions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from robustkit.reports._format import NONE
from robustkit.reports._tex_text import escape, power

_NUMBER = re.compile(
    r"(?<![\w.])(?P<sign>[+-]?)(?P<whole>\d{1,3}(?:,\d{3})+(?!\d)|\d+|(?=\.\d))(?P<rest>\.\d+)?(?P<power>e[+-]?\d+)?(?!\w)"
)
_BETWEEN = {" ± ": r"\,$\pm$\,", " : ": r"\,:\,", "<": "$<$", "*": r"\rlap{*}"}
_NOTHING = "--"


@dataclass(frozen=True)
class Parts:
    """A text as its numbers, each a match, and what is before, between and behind them: one more than numbers."""

    numbers: tuple[re.Match[str], ...]
    between: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Parts | None:
        """Take a text apart; None where it does not begin with a number, ``<`` aside."""
        numbers = tuple(_NUMBER.finditer(text))
        if not numbers or text[: numbers[0].start()] not in ("", "<"):
            return None
        ends = [0, *(m.end() for m in numbers)]
        starts = [*(m.start() for m in numbers), len(text)]
        return cls(numbers, tuple(text[a:b] for a, b in zip(ends, starts, strict=True)))


@dataclass(frozen=True)
class Room:
    """What the longest number at one place of a column needs: signs, digits, commas and digits behind the point."""

    sign: int
    digits: int
    commas: int
    behind: int


def aligned(texts: Sequence[str], bold: Sequence[bool] = ()) -> list[str]:
    """Return the cells of a column as LaTeX, to be set flush right; the first number of a bold one is bold."""
    every = [Parts.of(text) for text in texts]
    longest = max((one.between[1:-1] for one in every if one), key=len, default=())
    same = [one if one and longest[: len(one.between) - 2] == one.between[1:-1] else None for one in every]
    rooms = [
        _room([one.numbers[at] for one in same if one and at < len(one.numbers)]) for at in range(len(longest) + 1)
    ]
    tail = max((one.between[-1] for one in same if one and len(one.numbers) == len(rooms)), key=len, default="")
    found = []
    for text, one, heavy in zip(texts, same, bold or [False] * len(texts), strict=True):
        if one:
            found.append(_cell(one, rooms, longest, tail, heavy))
        elif text == NONE and any(same):
            found.append(_NOTHING + _phantom(_behind(rooms[0], 0) + _rest(rooms, longest, tail, 1)))
        else:
            found.append(plain(text))
    return found


def plain(text: str) -> str:
    """Return a cell of words, or one unlike the others of its column, as LaTeX."""
    words = {NONE: _NOTHING, "inf": r"$\infty$", "-inf": r"$-\infty$"}
    return words.get(text) or escape(text)


def _room(numbers: Sequence[re.Match[str]]) -> Room:
    usual = [m for m in numbers if not m["power"]]
    return Room(
        max((len(m["sign"]) for m in usual), default=0), max((_digits(m) for m in usual), default=0),
        max((m["whole"].count(",") for m in usual), default=0), max((len(m["rest"] or "") for m in usual), default=0),
    )  # fmt: skip


def _digits(m: re.Match[str]) -> int:
    return len(m["whole"].replace(",", ""))


def _cell(one: Parts, rooms: Sequence[Room], between: Sequence[str], tail: str, bold: bool) -> str:
    written = [_BETWEEN.get(one.between[0], "")]
    for at, m in enumerate(one.numbers):
        number = _number(m)
        ahead, behind = _ahead(rooms[at], m) if at else "", _behind(rooms[at], len(m["rest"] or ""))
        written.append(_phantom(ahead) + (rf"\textbf{{{number}}}" if bold and at == 0 else number))
        written.append("" if m["power"] else _phantom(behind))
        last = at == len(one.numbers) - 1
        written.append(_between(one.between[-1] if last else between[at]))
    missing = _rest(rooms, between, tail, len(one.numbers)) if len(one.numbers) < len(rooms) else ""
    return "".join(written) + _phantom(missing)


def _number(m: re.Match[str]) -> str:
    sign = f"${m['sign']}$" if m["sign"] else ""
    if m["power"]:
        return sign + power(m["whole"] + (m["rest"] or ""), m["power"][1:])
    return sign + m["whole"].replace(",", "{,}") + (m["rest"] or "")


def _ahead(room: Room, m: re.Match[str]) -> str:
    if m["power"]:
        return ""
    commas = room.commas - m["whole"].count(",")
    return "$+$" * (room.sign - len(m["sign"])) + "0" * (room.digits - _digits(m)) + "," * commas


def _behind(room: Room, there: int) -> str:
    return "." * (not there and room.behind > 0) + "0" * (room.behind - max(there, 1))


def _rest(rooms: Sequence[Room], between: Sequence[str], tail: str, first: int) -> str:
    """Return what stands behind the numbers before the ``first`` in the longest cell, for a phantom of its width."""
    whole = [
        _between(between[at - 1]) + "$+$" * room.sign + "0" * room.digits + "," * room.commas + _behind(room, 0)
        for at, room in enumerate(rooms)
        if at >= first
    ]
    return "".join([*whole, _between(tail) if whole else ""])


def _between(text: str) -> str:
    if text in _BETWEEN:
        return _BETWEEN[text]
    ahead, behind = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    return ahead + escape(text) + behind if text.strip() else text


def _phantom(text: str) -> str:
    return rf"\phantom{{{text}}}" if text else ""

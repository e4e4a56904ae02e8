"""How a number, a budget, a verdict and a file name look; the only place that knows, for every report."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from robustkit.base.options import eps_text as eps_text
from robustkit.records.schema import Verdict

MARKS: dict[Verdict, str] = {"trusted": "+", "unchecked": "~", "suspect": "?", "invalid": "!"}
LEGEND = "+ trusted, ~ unchecked, ? suspect, ! invalid"
NONE = "-"  # what a missing value looks like


class Number(str):
    """A number as it is shown, with the number itself and how others of its kind are shown.

    Attributes
    ----------
    value : float
        In the unit in which it is shown.
    show : callable
        From such a value to its text.
    """

    value: float
    show: Callable[[float], str]

    @classmethod
    def of(cls, value: float, show: Callable[[float], str]) -> Number:
        """Return a value as it is shown."""
        made = cls(show(value))
        made.value, made.show = value, show
        return made


def followed(text: str, more: str) -> str:
    """Return a text with more behind it; where it is a number, what is averaged over seeds is still that number."""
    number = as_number(text)
    if number is None:
        return text + more
    made = Number(text + more)
    made.value, made.show = number.value, number.show
    return made


def as_number(text: str) -> Number | None:
    """Return a text that is a number as one."""
    return text if isinstance(text, Number) else None


def percent(share: float | None) -> str:
    """Return a share in percent with one decimal: 0.448 -> ``44.8``; ``-`` for none."""
    return NONE if share is None else Number.of(100 * share, _one_decimal)


def _one_decimal(value: float) -> str:
    return f"{value:.1f}"


def interval(ci95: Sequence[float]) -> str:
    """Return an interval of shares in percent: ``[40.5, 49.2]``."""
    return f"[{percent(ci95[0])}, {percent(ci95[1])}]"


def points(difference: float) -> str:
    """Return a difference of shares in percentage points, with its sign: ``+12.3``, and ``0.0`` for none."""
    return Number.of(100 * difference, _signed)


def _signed(value: float) -> str:
    text = f"{value:+.1f}"
    return "0.0" if float(text) == 0 else text


def number(value: float | None) -> str:
    """Return a number of any unit with three significant digits, no exponent where it stays short."""
    return NONE if value is None else Number.of(value, _three_digits)


def _three_digits(value: float) -> str:
    if float(value).is_integer() and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def plain(value: Any) -> str:
    """Return any JSON value as one line of text."""
    if value is None:
        return NONE
    if isinstance(value, float):
        return number(value)
    return value if isinstance(value, str) else json.dumps(value)


def settings_text(params: dict[str, Any]) -> str:
    """Return parameters as ``name=value`` pairs, or ``-`` where there is none."""
    return ", ".join(f"{key}={plain(value)}" for key, value in params.items()) or NONE


def slug(*parts: str) -> str:
    """Return a file name for the parts: safe on every file system, never empty."""
    joined = "-".join(re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-.") for part in parts)
    return joined.strip("-.").lower() or "unnamed"


def unique(name: str, taken: set[str]) -> str:
    """Return ``name``, numbered if it is taken already, and take it."""
    free, count = name, 1
    while free in taken:
        count += 1
        free = f"{name}-{count}"
    taken.add(free)
    return free

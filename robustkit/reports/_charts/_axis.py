"""Axes: from numbers to places, and the ticks between them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from robustkit.reports._charts._svg import number
from robustkit.reports._format import eps_text

APART = 0.13  # of an axis: labels like 16/255 that are nearer than that would touch on a phone


@dataclass(frozen=True)
class Axis:
    """One axis: the numbers at its ends, its ticks with their texts, what it shows; ``scale`` is 100 for percent."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    title: str
    scale: float = 1.0

    def place(self, value: float) -> float:
        """Return where a number stands, 0 at the low end and 1 at the high one."""
        return (value - self.low) / (self.high - self.low)

    def across(self, value: float) -> str:
        """Return a number as SVG's percentage from the left."""
        return f"{number(100 * self.place(value))}%"

    def up(self, value: float) -> str:
        """Return a number as SVG's percentage from the top, where large numbers stand."""
        return f"{number(100 * (1 - self.place(value)))}%"


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return at most so many multiples of 1, 2 or 5 times a power of ten in [low, high]."""
    if not high > low:
        return [low]
    rough = (high - low) / max(1, most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12 - math.floor(math.log10(step))) for k in range(first, last + 1)]


def tick_texts(ticks: Sequence[float]) -> list[str]:
    """Return ticks with as many decimals as all of them need."""
    for decimals in range(10):
        texts = [f"{value:.{decimals}f}" for value in ticks]
        if all(math.isclose(float(t), v, rel_tol=1e-9, abs_tol=1e-12) for t, v in zip(texts, ticks, strict=True)):
            return ["0" if float(text) == 0 else text for text in texts]
    return [f"{value:.3g}" for value in ticks]


def linear(
    values: Iterable[float | None], title: str, *, low: float | None = None, high: float | None = None, most: int = 6,
    scale: float = 1.0,
) -> Axis:  # fmt: skip
    """Return an axis that holds all finite values, with a little room where an end is not given.

    Parameters
    ----------
    low, high : float, optional
        Ends that are not to be looked for.
    scale : float
        What the texts of the ticks are multiplied by: 100 for shares in percent.
    """
    finite = [v for v in values if v is not None and math.isfinite(v)]
    bottom = min(finite, default=0.0) if low is None else low
    top = max(finite, default=1.0) if high is None else high
    if not top > bottom:  # all the same
        around = abs(top) / 10 or 0.5
        bottom, top = (bottom - around if low is None else bottom), (bottom + around if high is None else top)
        top = top if top > bottom else bottom + 1.0
    room = 0.04 * (top - bottom)
    bottom, top = bottom - (room if low is None else 0.0), top + (room if high is None else 0.0)
    places = nice_ticks(bottom * scale, top * scale, most)
    ticks = [(place / scale, text) for place, text in zip(places, tick_texts(places), strict=True)]
    return Axis(bottom, top, tuple(ticks), title, scale)


def shares(title: str, *, low: float = -0.02, high: float = 1.02) -> Axis:
    """Return an axis of shares, in percent, a little longer than from 0 to 100."""
    return Axis(low, high, tuple((at / 5, str(20 * at)) for at in range(6)), title, 100.0)


def budgets(eps: Iterable[float], title: str, text: Callable[[float], str] = eps_text) -> Axis:
    """Return an axis of budgets from 0, with a tick at each one whose text has room."""
    values = sorted({value for value in eps if math.isfinite(value)})
    right = (max(values, default=0.0) or 1.0) * 1.04
    ticks = [0.0]
    for value in values:
        if value - ticks[-1] > APART * right:
            ticks.append(value)
    return Axis(-0.02 * right, right, tuple((value, text(value)) for value in ticks), title)

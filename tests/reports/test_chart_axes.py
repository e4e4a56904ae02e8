"""Axes and paths of the page's charts: ticks by hand, places, gaps, and no number that is none."""

from __future__ import annotations

import math

import pytest

from robustkit.reports._charts import _svg
from robustkit.reports._charts._axis import Axis, budgets, linear, nice_ticks, shares, tick_texts


@pytest.mark.parametrize(
    ("low", "high", "most", "ticks"),
    [
        (0.0, 1.0, 6, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.0, 100.0, 6, [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]),
        (-1.9, 0.7, 6, [-1.0, 0.0]),
        (0.013, 0.029, 5, [0.015, 0.02, 0.025]),
        (2.13, 2.26, 5, [2.15, 2.2, 2.25]),
        (0.0, 7e-6, 6, [0.0, 2e-6, 4e-6, 6e-6]),
        (0.0, 31000.0, 6, [0.0, 10000.0, 20000.0, 30000.0]),
        (3.0, 3.0, 6, [3.0]),
    ],
)
def test_ticks(low: float, high: float, most: int, ticks: list[float]) -> None:
    assert nice_ticks(low, high, most) == pytest.approx(ticks, abs=1e-18)
    assert len(ticks) <= most


def test_ticks_have_the_decimals_that_all_need() -> None:
    assert tick_texts([0.0, 0.2, 1.0]) == ["0.0", "0.2", "1.0"]
    assert tick_texts([-0.0, 5.0, 10.0]) == ["0", "5", "10"]
    assert tick_texts([0.015, 0.02]) == ["0.015", "0.020"]
    assert tick_texts([2e-6]) == ["0.000002"]


def test_places() -> None:
    axis = Axis(-1.0, 3.0, (), "")
    assert (axis.place(-1.0), axis.place(0.0), axis.place(3.0)) == (0.0, 0.25, 1.0)
    assert (axis.across(0.0), axis.up(0.0)) == ("25%", "75%")


def test_linear_axis_holds_what_is_finite() -> None:
    axis = linear([0.2, None, 0.6, math.nan, math.inf], "x")
    assert (axis.low, axis.high) == pytest.approx((0.2 - 0.016, 0.6 + 0.016))
    given = linear([0.2, 5.0], "x", low=0.0, high=1.0)
    assert (given.low, given.high) == (0.0, 1.0)


@pytest.mark.parametrize("values", [[], [None], [0.0], [0.25, 0.25], [-3.0], [1e-9]])
def test_an_axis_is_never_empty(values: list[float | None]) -> None:
    axis = linear(values, "x", low=0.0) if values == [] else linear(values, "x")
    assert axis.high > axis.low
    assert all(0 <= axis.place(value) <= 1 for value, _ in axis.ticks)
    assert all(0 <= axis.place(value) <= 1 for value in values if value is not None)


def test_percent_axis_shows_hundreds_of_shares() -> None:
    assert [text for _, text in shares("").ticks] == ["0", "20", "40", "60", "80", "100"]
    assert [value for value, _ in shares("").ticks] == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    gains = linear([-0.012, 0.006], "gain (points)", scale=100)
    assert dict(gains.ticks)[0.0] == "0.0"
    assert {text for _, text in gains.ticks} >= {"-1.0", "0.5"}


def test_labels_of_budgets_do_not_touch() -> None:
    axis = budgets([k / 255 for k in (1, 2, 4, 8, 16, 32)], "eps")
    assert [text for _, text in axis.ticks] == ["0", "8/255", "16/255", "32/255"]
    assert budgets([0.0], "eps").high > 0
    assert [text for _, text in budgets([8 / 255], "eps").ticks] == ["0", "8/255"]


def test_coordinates_are_short_and_exact_to_six_digits() -> None:
    found = [_svg.number(value) for value in (0.5, -0.25, 0.0, -0.0, 100.0, 1 / 3, 12345.678, 1e-7)]
    assert found == [".5", "-.25", "0", "0", "100", ".333333", "12345.7", "1e-07"]
    for bad in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match="is no coordinate"):
            _svg.number(bad)


def test_what_is_missing_leaves_a_gap() -> None:
    points = [(0.0, 1.0), (1.0, None), (2.0, 3.0), (3.0, math.nan), (4.0, 5.0), (5.0, 6.0), (math.inf, 1.0)]
    assert _svg.line(points) == "M0 1M2 3M4 5L5 6".replace("M0 1", "M0 1h0").replace("M2 3", "M2 3h0")
    assert _svg.dots(points) == "M0 1h0M2 3h0M4 5h0M5 6h0"
    assert _svg.line([]) == _svg.line([(0.0, None)]) == ""


def test_steps_keep_their_height_until_the_next() -> None:
    assert _svg.steps([(0.0, 1.0), (2.0, 0.5), (3.0, 0.0)]) == "M0 1L2 1L2 .5L3 .5L3 0"
    assert _svg.steps([(0.0, 1.0), (1.0, None), (2.0, 0.5)]) == "M0 1h0M2 .5h0"


def test_a_band_goes_there_and_back() -> None:
    low, high = [(0.0, 0.1), (1.0, 0.2)], [(0.0, 0.3), (1.0, 0.4)]
    assert _svg.area(low, high) == "M0 .3L1 .4L1 .2L0 .1Z"
    assert _svg.area(low[:1], high[:1]) == ""


def test_everything_is_escaped() -> None:
    bad = "<img src=x onerror=alert(1)>\"'&"
    made = _svg.element("text", bad, data_name=bad)
    assert made.count("<") == 2
    assert made.count(">") == 2
    assert made.count('"') == 2
    assert _svg.element("g", made).startswith("<g><text data-name=")

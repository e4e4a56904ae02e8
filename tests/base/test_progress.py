"""Off a terminal: a line for each finished piece, the time left, and no long silence."""

from __future__ import annotations

import io
import re
import threading
import time

import pytest
from rich.console import Console

from robustkit.base.lines import Lines, spoken
from robustkit.base.progress import Reporter


class Stamped(io.StringIO):
    """What is written, and when."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def write(self, text: str) -> int:
        if text.strip():
            self.times.append(time.monotonic())
        return super().write(text)


def watched(every: float) -> tuple[Stamped, Reporter]:
    stream = Stamped()
    return stream, Reporter(Console(file=stream, width=200, force_terminal=False), every)


def test_a_line_for_each_finished_piece_with_the_time_left():
    stream, reporter = watched(60.0)
    with reporter.pieces("evaluating", 3, 4.0) as done:
        done()  # one that was there already costs nothing and says nothing
        time.sleep(0.2)
        done("adp: pgd, 0 s", 1.0)
        done("adp: mim, 0 s", 3.0)
    first, second = stream.getvalue().splitlines()
    assert first.startswith("[2/3] adp: pgd, 0 s, 1 s left")  # three times what the first took, 0.2 s
    assert second == "[3/3] adp: mim, 0 s"


def test_what_cost_next_to_nothing_says_nothing_of_the_time_left():
    stream, reporter = watched(60.0)
    with reporter.pieces("evaluating", 3, 1000.0) as done:
        time.sleep(0.2)
        done("adp: clean images, 0 s", 1.0)  # 200 s left, at its pace
        done("adp: pgd, 0 s", 499.0)
        done("adp: mim, 0 s", 500.0)
    first, second, _ = stream.getvalue().splitlines()
    assert first == "[1/3] adp: clean images, 0 s"
    assert re.fullmatch(r"\[2/3\] adp: pgd, 0 s, \d s left", second)


def test_no_silence_is_long():
    stream, reporter = watched(0.1)
    began = time.monotonic()
    with reporter.alive("working"), reporter.task("training adp", 100) as advance:
        time.sleep(0.05)
        for step in range(8):
            advance(10, f"epoch {step}")
            time.sleep(0.06)
    ended = time.monotonic()
    moments = [began, *stream.times, ended]
    assert max(b - a for a, b in zip(moments, moments[1:], strict=False)) < 0.25
    lines = stream.getvalue().splitlines()
    assert len(lines) >= 3
    assert all(re.fullmatch(r"  training adp: epoch \d; \d+ %(, \d+ s left)?", line) for line in lines), lines


def test_a_line_resets_the_silence_and_the_end_of_the_work_ends_it():
    stream, reporter = watched(0.2)
    before = threading.active_count()
    with reporter.alive("working"):
        for _ in range(6):
            time.sleep(0.05)
            reporter.say("news")
    time.sleep(0.3)
    assert stream.getvalue().splitlines() == ["news"] * 6
    assert threading.active_count() <= before  # another test may just have ended one more


def test_the_silence_between_two_pieces_of_work_counts_as_well():
    stream, reporter = watched(0.5)
    reporter.say("first")
    began = stream.times[0]
    for _ in range(5):
        with reporter.alive("loading"):
            time.sleep(0.15)
    assert len(stream.times) >= 2
    assert stream.times[1] - began < 0.7


def test_what_is_only_alive_says_for_how_long():
    stream, reporter = watched(0.05)
    with reporter.alive("writing the report"):
        time.sleep(0.12)
    assert stream.getvalue().splitlines()[0] == "  writing the report ... (0 s)"


def test_a_training_that_is_resumed_does_not_count_what_was_done_before():
    said: list[str] = []
    lines = Lines(said.append, 0.3)
    task = lines.open("training adp", 100)
    lines.advance(task, 90)  # ninety epochs of an earlier run, at once
    time.sleep(0.2)
    lines.advance(task, 1, "epoch 92")
    time.sleep(0.15)
    lines.close(task)
    # One epoch in 0.3 s: nine more take about 2.7 s; by all 91 it would be 0 s.
    left = int(re.fullmatch(r"  training adp: epoch 92; 91 %, (\d) s left", said[0])[1])
    assert 2 <= left <= 4


def test_several_at_once_are_counted():
    said: list[str] = []
    lines = Lines(said.append, 0.05)
    tasks = [lines.open(name, 10) for name in ("a", "b", "c")]
    time.sleep(0.08)
    for task in tasks:
        lines.close(task)
    assert said[0] == "  a; 0 %; 2 more beside it"


def test_nobody_is_told_anything_without_a_console(capsys: pytest.CaptureFixture[str]):
    reporter = Reporter(None, 0.01)
    with reporter.alive("x"), reporter.pieces("y", 2) as done:
        done("z")
        time.sleep(0.05)
    assert capsys.readouterr().out == ""


def test_on_a_terminal_bars_are_drawn_and_an_error_passes_through():
    stream = io.StringIO()
    reporter = Reporter(Console(file=stream, force_terminal=True, width=100))

    def fail() -> None:
        with reporter.task("training adp", 4) as advance:
            advance(2, "epoch 1")
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fail()
    assert "training adp" in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (99, "99 s"), (100, "2 min"), (3600, "60 min"), (7500, "2 h 5 min"), (7200, "2 h")],
)
def test_durations_are_said_as_people_say_them(seconds: float, text: str):
    assert spoken(seconds) == text


def test_a_finished_piece_is_said_where_no_bar_showed_it():
    stream, reporter = watched(60.0)
    reporter.finished("detection, adp: pgd", 3.4)
    assert stream.getvalue() == "detection, adp: pgd, 3 s\n"
    terminal = io.StringIO()
    Reporter(Console(file=terminal, force_terminal=True)).finished("detection, adp: pgd", 3.4)
    Reporter(None).finished("detection, adp: pgd", 3.4)
    assert terminal.getvalue() == ""

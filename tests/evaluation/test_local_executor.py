"""Threads of this process: what a piece raises is raised where pieces are waited for, whatever it is."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

from robustkit.base.progress import Reporter
from robustkit.evaluation.executors import Piece
from robustkit.evaluation.executors.local import Local


class Stopped(BaseException):
    """What ends a program, and is no error."""


def stopping(worker: Any) -> None:
    raise Stopped


@pytest.mark.parametrize("workers", [1, 2])
def test_what_ends_a_program_is_heard_in_threads_too(workers: int):
    heard: list[BaseException] = []

    def wait() -> None:
        try:
            with Local(torch.device("cpu"), workers).session(2, Reporter()) as session:
                for _ in range(2):
                    session.submit(Piece(stopping))
                list(session.finished())
        except Stopped as error:
            heard.append(error)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    waiting.join(5)
    assert len(heard) == 1

"""Which piece starts next: the costliest first, a lost one again before all others, three times. No torch, no Ray.

A piece's cost is what is left of the work that it begins, so that of many chains the longest goes first and never
begins last ("highest level first", Hu 1961, doi:10.1287/opre.9.6.841). Nothing here knows who works or what time it is:
a simulation with a clock of its own drives the same code (``benchmarks/executors.py``).
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from robustkit.evaluation.executors import TRIES, Done, Piece


@dataclass
class Ticket:
    """A piece on its way: how often it has been started, and in how many of these tries memory ran out."""

    piece: Piece
    number: int
    starts: int = 0
    halvings: int = 0


@dataclass(frozen=True)
class Lost:
    """A try that ended without a value and without an exception of the piece's own: its worker or node died of this."""

    cause: str
    memory: bool = False


class Workers(Protocol):
    """Who works: elsewhere, or in a simulation."""

    def room(self) -> bool:
        """Return whether one more piece may be started now."""

    def start(self, ticket: Ticket) -> None:
        """Begin a piece; it must not wait for it."""

    def ended(self) -> Sequence[tuple[Ticket, Done | Lost]]:
        """Wait a while until a piece that was started has ended, and return what has; what it raised is raised."""


@dataclass
class Queue:
    """Pieces that wait to be started, and those that have been and are not done."""

    tries: int = TRIES
    running: int = 0
    _heap: list[tuple[bool, float, int, Ticket]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def __len__(self) -> int:
        return len(self._heap) + self.running

    def put(self, piece: Piece) -> None:
        """Take a piece on."""
        self._push(Ticket(piece, next(self._numbers)), first=False)

    def take(self) -> Ticket | None:
        """Return what is started now; None where nothing waits."""
        if not self._heap:
            return None
        *_, ticket = heapq.heappop(self._heap)
        self.running += 1
        ticket.starts += 1
        return ticket

    def done(self, ticket: Ticket) -> None:
        """Note that a piece is over."""
        self.running -= 1

    def again(self, ticket: Ticket, lost: Lost) -> bool:
        """Note that a try was lost; return whether there is another, before all that waits, else the piece is over."""
        self.running -= 1
        if ticket.starts >= self.tries:
            return False
        ticket.halvings += lost.memory
        self._push(ticket, first=True)
        return True

    def _push(self, ticket: Ticket, first: bool) -> None:
        heapq.heappush(self._heap, (not first, -ticket.piece.cost, ticket.number, ticket))


def finished(queue: Queue, workers: Workers) -> Iterator[Done]:
    """Yield each piece of a queue once it is over, until none is left; more may be put in meanwhile.

    Workers that became free are given what waits before anything is yielded: whoever reads takes the time to store it.
    A piece whose tries are all lost is yielded with the cause of the last one.
    """
    over: list[Done] = []
    while queue or over:
        while workers.room() and (ticket := queue.take()) is not None:
            workers.start(ticket)
        if over:
            yield over.pop(0)
            continue
        for ticket, end in workers.ended():
            if isinstance(end, Done):
                queue.done(ticket)
                over.append(end)
            elif not queue.again(ticket, end):
                over.append(Done(ticket.piece, lost=f"{end.cause}, in the last of {ticket.starts} tries"))

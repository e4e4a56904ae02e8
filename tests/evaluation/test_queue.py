"""The queue of pieces: costliest first, lost ones again and at most three times, workers never idle while some wait."""

from __future__ import annotations

from robustkit.evaluation.executors import Done, Piece
from robustkit.evaluation.executors._queue import Lost, Queue, finished


def piece(label: str, cost: float) -> Piece:
    return Piece(print, cost=cost, label=label)


class Scripted:
    """So many workers; pieces end in the order in which they began, those named in ``lost`` so many times in vain."""

    def __init__(self, count: int, lost: dict[str, int] | None = None, memory: bool = False) -> None:
        self.count, self.lost, self.memory, self.running, self.starts = count, dict(lost or {}), memory, [], []

    def room(self) -> bool:
        return len(self.running) < self.count

    def start(self, ticket) -> None:
        self.running.append(ticket)
        self.starts.append((ticket.piece.label, ticket.halvings))

    def ended(self):
        ticket = self.running.pop(0)
        left = self.lost.get(ticket.piece.label, 0)
        if left:
            self.lost[ticket.piece.label] = left - 1
            return [(ticket, Lost("the node died", self.memory))]
        return [(ticket, Done(ticket.piece, ticket.piece.label.upper()))]


def queue(*pieces: Piece) -> Queue:
    found = Queue()
    for one in pieces:
        found.put(one)
    return found


def test_the_costliest_starts_first_and_equals_keep_their_order():
    workers = Scripted(1)
    over = list(finished(queue(piece("b", 2), piece("a", 1), piece("d", 5), piece("c", 2)), workers))
    assert [done.value for done in over] == ["D", "B", "C", "A"]


def test_what_is_put_in_meanwhile_takes_its_place():
    workers = Scripted(1)
    whole = queue(piece("long", 9), piece("short", 1))
    for done in finished(whole, workers):
        if done.value == "LONG":
            whole.put(piece("next", 8))  # the rest of a chain goes before what is shorter
    assert [label for label, _ in workers.starts] == [
        "long",
        "short",
        "next",
    ]  # one was free before the answer was read
    assert len(whole) == 0


def test_a_lost_piece_goes_first_and_is_over_after_three_tries():
    workers = Scripted(1, {"bad": 9, "unlucky": 2})
    over = {
        done.piece.label: done for done in finished(queue(piece("bad", 3), piece("unlucky", 2), piece("x", 9)), workers)
    }
    assert [label for label, _ in workers.starts] == ["x", *["bad"] * 3, *["unlucky"] * 3]
    assert over["bad"].lost == "the node died, in the last of 3 tries"
    assert over["bad"].value is None
    assert (over["unlucky"].value, over["unlucky"].lost) == ("UNLUCKY", "")


def test_memory_that_ran_out_is_counted():
    workers = Scripted(1, {"large": 2}, memory=True)
    assert [done.value for done in finished(queue(piece("large", 1)), workers)] == ["LARGE"]
    assert workers.starts == [("large", 0), ("large", 1), ("large", 2)]


def test_free_workers_are_given_work_before_an_answer_is_read():
    workers = Scripted(2)
    for done in finished(queue(*(piece(str(at), 1) for at in range(5))), workers):
        assert len(workers.running) == min(2, 4 - int(done.value))

"""Executors: who runs independent pieces of work, and where; one file each, found by the registry.

A piece of work is data: an importable function, small arguments, and the names of the large things that it needs, which
are shared once. `local` runs pieces in threads of this process, `ray` on a cluster; both take exactly the same pieces.
An executor knows nothing of cells, stores or trainings: who submits a piece says what is done with what it returns, and
writes it. This module never imports torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from robustkit.base.errors import RunError
from robustkit.base.registry import Registry
from robustkit.evaluation.executors._address import LOCAL as LOCAL
from robustkit.evaluation.executors._address import listening, read

if TYPE_CHECKING:
    import torch

    from robustkit.base.progress import Reporter

executor = Registry("executor", "robustkit.evaluation.executors")
TRIES = 3  # of a piece whose worker or node died


@dataclass(frozen=True)
class Recipe:
    """How a worker makes a shared thing that does not travel itself: ``function(worker, **arguments)``, made once."""

    function: Callable[..., Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Piece:
    """A piece of work that needs nothing of the others in flight.

    Attributes
    ----------
    function : callable
        ``function(worker, **arguments)`` at the top level of a module of this package, so that it is known by its name;
        what it returns can be pickled. It writes no file.
    arguments : mapping
        Small, and can be pickled.
    needs : tuple of str
        Names of shared things, which ``worker.get(name)`` gives.
    cost : float
        What is left of the work that this piece begins, in any one unit: the costliest piece starts first.
    label : str
        For the person who watches.
    steps : int
        How far ``worker.advance`` counts; 0: it is not called.
    tag : any
        The caller's own note, which does not travel.
    """

    function: Callable[..., Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    cost: float = 0.0
    label: str = ""
    steps: int = 0
    tag: Any = None


@dataclass(frozen=True)
class Done:
    """A piece that is finished, in whatever way.

    Attributes
    ----------
    value : any
        What its function returned.
    lost : str
        Why there is no value: its worker or node died in each of :data:`TRIES` tries; empty where there is one.
    where : mapping
        What the record of it should say beside this process: the node that it ran on; empty of this process.
    seconds : float
        How long it ran.
    """

    piece: Piece
    value: Any = None
    lost: str = ""
    where: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def result(self) -> Any:
        """Return the value; a :class:`RunError` where the piece was lost."""
        if self.lost:
            raise RunError(f"{self.piece.label} failed: {self.lost}; the same command tries it again.")
        return self.value


class Session(Protocol):
    """Pieces that run side by side."""

    def submit(self, piece: Piece) -> None:
        """Take a piece on; it begins when there is room, the costliest first."""

    def finished(self) -> Iterator[Done]:
        """Yield each piece once it is done, until none is left; more may be submitted meanwhile.

        What a piece raises is raised here. Leaving the session cancels what has not begun.
        """


class Executor(Protocol):
    """Who runs pieces of work."""

    remote: bool  # whether pieces run in other processes: a large thing then travels
    device: torch.device  # what pieces compute on
    threads: int  # of torch, that a piece computes with

    def open(self) -> None:
        """Get ready; a :class:`UserError` says why that cannot be. Else the first thing shared does it."""

    def share(self, name: str, value: Any, recipe: Recipe | None = None) -> None:
        """Make a thing known to all pieces by its name; a name that is known already stays what it is.

        An ensemble, a split, a dataset, or what can be pickled. With a recipe the value stays in this process, and may
        be None where :attr:`remote`; a worker elsewhere makes its own.
        """

    def drop(self, name: str) -> None:
        """Forget a shared thing that no piece needs any more."""

    def session(self, width: int, reporter: Reporter) -> AbstractContextManager[Session]:
        """Open a session in which about ``width`` pieces are there to run side by side."""

    def summary(self) -> list[str]:
        """Return a line for each other machine: what it did, and which share of the time it was busy."""

    def close(self) -> None:
        """Cancel everything at once, and leave no process."""


def check(text: str) -> None:
    """Raise a :class:`UserError` unless ``--executor`` names one that there is, that is installed, and that answers."""
    address = read(text)
    if address.joined:
        listening(address)


class Asked(Protocol):
    """What a configuration says of who runs pieces: ``--executor --task-cpus --task-gpus``, ``workers`` if any."""

    @property
    def executor(self) -> str: ...  # noqa: D102
    @property
    def task_cpus(self) -> int: ...  # noqa: D102
    @property
    def task_gpus(self) -> float | None: ...  # noqa: D102


def chosen(asked: Asked, device: torch.device) -> Executor | None:
    """Return the executor that was asked for, which nothing is started for yet; None: threads of this process.

    Parameters
    ----------
    device : torch.device
        Of this process.
    """
    address = read(asked.executor)
    if not address.remote:
        return None
    most: int | None = getattr(asked, "workers", None)
    made: Executor = executor.get("ray")(device, address, asked.task_cpus, asked.task_gpus, most)
    return made


@contextlib.contextmanager
def opened(executor: Executor | None, reporter: Reporter | None = None) -> Iterator[None]:
    """Open an executor, and leave no process when the block is left, in whatever way.

    The reporter is told at the end how busy each node was.
    """
    if executor is None:
        yield
        return
    try:
        executor.open()
        yield
        if reporter is not None:
            for line in executor.summary():
                reporter.say(line)
    finally:
        executor.close()

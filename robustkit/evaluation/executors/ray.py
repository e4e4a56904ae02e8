"""Pieces of work on Ray: an instance on this machine, or a cluster."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from rich.markup import escape

from robustkit.base.errors import RunError, UserError
from robustkit.base.progress import Reporter
from robustkit.data import Dataset, Split
from robustkit.evaluation.executors import TRIES, Done, Piece, Recipe, _stub, executor
from robustkit.evaluation.executors._address import Address
from robustkit.evaluation.executors._cluster import Cluster, by_value, cores, differing
from robustkit.evaluation.executors._nodes import Nodes
from robustkit.evaluation.executors._queue import Lost, Queue, Ticket, finished
from robustkit.evaluation.executors._travel import pack, size_of, unpack

LOOK = 1.0  # seconds after which the size of the cluster is looked at again
MEMORY = "memory ran out"
AHEAD = 4  # one piece waits at the workers for each so many that run there, at least one a node: none is idle meanwhile


@dataclass
class _Shared:
    ref: Any
    bytes: int
    needs: tuple[str, ...]
    kept: bool
    packed: Any = None  # until it is put where nodes fetch it


@executor("ray", title="Ray, on this machine or a cluster")
class Ray:
    """A cluster of Ray, joined or started when the first thing is shared.

    Parameters
    ----------
    device : torch.device
        Of this process; workers compute on a GPU where ``gpus`` gives them one, or where this device is one.
    cpus : int
        CPUs of a piece, and its torch threads.
    gpus : float or None
        GPUs of a piece; None: 1 where the device is a GPU.
    most : int or None
        How many pieces run at a time; None: as many as there is room for.
    """

    remote = True

    def __init__(
        self, device: torch.device, address: Address, cpus: int = 1, gpus: float | None = None, most: int | None = None
    ) -> None:
        self.address, self.cpus, self.threads, self.most = address, cpus, cpus, most
        self.gpus = gpus if gpus is not None else 1.0 if device.type == "cuda" else 0.0
        self.device = torch.device("cuda") if self.gpus else torch.device("cpu" if device.type == "cuda" else device)
        self._cluster: Cluster | None = None
        self._shared: dict[str, _Shared] = {}
        self.nodes = Nodes()
        self.sent = 0  # bytes that were put where nodes fetch them

    @property
    def cluster(self) -> Cluster:
        """The connection, made now if it is not there."""
        if self._cluster is None:
            self._cluster = Cluster(self.address)
            self._fits()
        return self._cluster

    def open(self) -> None:
        """Join a cluster; an instance of our own starts with the first piece, which a full store has none of.

        A :class:`UserError` where a piece has more than this machine, before an instance is started to see it.
        """
        if self.address.joined:
            _ = self.cluster
        elif not self._room(here := {"CPU": cores(), "GPU": torch.cuda.device_count()}):
            raise self._too_small(here)

    def _fits(self) -> None:
        """Raise a :class:`UserError` where no node has room for a piece, which would wait for ever."""
        alive = [node["Resources"] for node in self.cluster.ray.nodes() if node["Alive"]]
        if not any(self._room(node) for node in alive):
            most = {name: max(node.get(name, 0.0) for node in alive) for name in ("CPU", "GPU")}
            raise self._too_small(most)

    def _too_small(self, most: Mapping[str, float]) -> UserError:
        # Cause: --task-cpus or --task-gpus is more than a node has, or --device is a GPU and no node has one.
        return UserError(
            f"no node of executor '{self.address.text}' has room for a piece of work of {self.cpus} CPUs and "
            f"{self.gpus:g} GPUs (at most {most['CPU']:g} and {most['GPU']:g}); lower --task-cpus or --task-gpus."
        )

    def share(self, name: str, value: Any, recipe: Recipe | None = None) -> None:
        """Put a thing where every node fetches it once."""
        if name in self._shared:
            return
        packed = pack(value if recipe is None else recipe, name)
        kept = recipe is not None or isinstance(value, torch.nn.Module | Split | Dataset)
        self._shared[name] = _Shared(None, size_of(packed), recipe.needs if recipe else (), kept, packed)
        if self._cluster is not None:
            self._put(self._shared[name])

    def _put(self, thing: _Shared) -> None:
        if thing.packed is not None:
            thing.ref, thing.packed = self.cluster.ray.put(thing.packed), None
            self.sent += thing.bytes

    def drop(self, name: str) -> None:
        """Forget a shared thing; nodes forget it when no piece uses it any more."""
        self._shared.pop(name, None)

    @contextlib.contextmanager
    def session(self, width: int, reporter: Reporter) -> Iterator[_Tasks]:
        """Open a session; how many pieces run at a time is the cluster's to say."""
        session, began = _Tasks(self, reporter), time.monotonic()
        try:
            yield session
        finally:
            self.nodes.open_seconds += time.monotonic() - began
            session.cancel()

    def summary(self) -> list[str]:
        """Return a line for each node that did something."""
        for node in self.cluster.ray.nodes() if self._cluster is not None else ():
            self.nodes.has(f"{node['NodeManagerHostname']}/{node['NodeID'][:8]}", self._room(node["Resources"]))
        return self.nodes.lines()

    def close(self) -> None:
        """Cancel everything; end an instance of our own."""
        self._shared.clear()
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None

    def rooms(self) -> dict[str, int]:
        """Return for how many pieces each node has room, by its id."""
        alive = {node["NodeID"]: self._room(node["Resources"]) for node in self.cluster.ray.nodes() if node["Alive"]}
        return {node: room for node, room in alive.items() if room}

    def _room(self, there: Mapping[str, float]) -> int:
        """Return for how many pieces at a time resources are enough."""
        each = {"CPU": self.cpus, **({"GPU": self.gpus} if self.gpus else {})}
        return int(min(there.get(name, 0.0) / needed for name, needed in each.items()))

    def needed(self, names: Iterable[str]) -> dict[str, _Shared]:
        """Return shared things with what their recipes need, by name."""
        found: dict[str, _Shared] = {}
        for name in names:
            if name not in found:
                self._put(self._shared[name])
                found |= {name: self._shared[name], **self.needed(self._shared[name].needs)}
        return found


class _Tasks:
    """A session: the costliest pieces are tasks of Ray, a few more than there is room for; the rest wait here."""

    def __init__(self, owner: Ray, reporter: Reporter) -> None:
        self._owner, self._reporter = owner, reporter
        self._made: Any = None
        self._versions = _stub.versions()
        self._queue = Queue()
        self._flying: dict[Any, tuple[Ticket, str | None]] = {}  # with the node that each was meant for
        self._rooms: dict[str, int] = {}
        self._looked = 0.0

    @property
    def _ray(self) -> Any:
        return self._owner.cluster.ray

    @property
    def _remote(self) -> Any:
        self._made = self._made or self._ray.remote(by_value(self._ray, _stub.run))
        return self._made

    def submit(self, piece: Piece) -> None:
        """Take a piece on."""
        self._queue.put(piece)

    def finished(self) -> Iterator[Done]:
        """Yield each piece once it is done, until none is left."""
        return finished(self._queue, self)

    def cancel(self) -> None:
        """Drop what waits, and end what runs."""
        self._queue = Queue()
        for ref in self._flying:
            with contextlib.suppress(Exception):
                self._ray.cancel(ref, force=True)
        self._flying.clear()

    def room(self) -> bool:
        """Return whether one more piece may be a task."""
        now = time.monotonic()
        if now > self._looked + LOOK:
            rooms, self._looked = self._owner.rooms(), now
            if self._rooms and not rooms:
                self._reporter.say("[yellow]warning:[/yellow] no node of the cluster is left; one that joins goes on")
            self._rooms = rooms
        slots = max(1, min(sum(self._rooms.values()), self._owner.most or 2**31))
        waiting = 0 if self._owner.most else max(1, len(self._rooms), slots // AHEAD)
        return len(self._flying) < slots + waiting

    def start(self, ticket: Ticket) -> None:
        """Make a task of a piece."""
        owner, piece = self._owner, ticket.piece
        things = owner.needed(piece.needs)
        packed = {
            "function": piece.function, "arguments": piece.arguments, "label": piece.label, "device": str(owner.device),
            "cpus": owner.cpus, "halvings": ticket.halvings, "kept": [n for n, thing in things.items() if thing.kept],
        }  # fmt: skip
        where, node = self._place(ticket)
        task = self._remote.options(num_cpus=owner.cpus, num_gpus=owner.gpus, max_retries=0, scheduling_strategy=where)
        refs = [thing.ref for thing in things.values()]
        ref = task.remote(self._versions, pack(packed, piece.label), list(things), *refs)
        self._flying[ref] = ticket, node

    def _place(self, ticket: Ticket) -> tuple[Any, str | None]:
        """Return Ray's strategy for a piece, and the node that it means.

        It is the one with the most room left. Ray alone asks the node that has the arguments first, which learns up to
        a tenth of a second late that another is free. Where somebody else has taken the room, it goes where there is.
        """
        if ticket.starts > 1 or not self._rooms:
            return "SPREAD", None  # elsewhere, after a worker died
        taken = Counter(node for _, node in self._flying.values())
        node = max(self._rooms, key=lambda name: (self._rooms[name] - taken[name]) / self._rooms[name])
        on = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        return on(node, soft=True, _spill_on_unavailable=True), node

    def ended(self) -> list[tuple[Ticket, Done | Lost]]:
        """Return the pieces that have ended; none after a second, since there may be more room by then."""
        ready, _ = self._ray.wait(list(self._flying), num_returns=1, timeout=LOOK)
        return [(ticket, self._end(ref, ticket)) for ref in ready for ticket, _ in [self._flying.pop(ref)]]

    def _end(self, ref: Any, ticket: Ticket) -> Done | Lost:
        """Return how a piece has ended; what it raised is raised."""
        errors = self._ray.exceptions
        try:
            outcome, value, seconds, where = self._ray.get(ref)
        except (
            errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError, errors.ObjectLostError,
            errors.LocalRayletDiedError,
        ) as error:  # fmt: skip
            self._owner.cluster.check_alive(error)
            return self._lost(ticket, *_cause(errors, error))
        except errors.RayTaskError as error:
            if isinstance(getattr(error, "cause", None), MemoryError):
                return self._lost(ticket, MEMORY, memory=True)
            raise RunError(f"{ticket.piece.label} failed: {_last_line(error)}") from None
        except errors.RayError as error:
            raise RunError(f"Ray cannot go on: {_last_line(error)}") from None
        if outcome == "versions":
            raise RunError(differing(where["node"], value))
        found = unpack(value)
        if outcome == "raised":
            usage, said = found
            if self._owner.address.joined:  # whose files and modules need not be those of this machine
                said = f"on node {where['node']}: {said}"
            raise UserError(said) if usage else RunError(said)
        if outcome == "broke":
            return self._lost(ticket, found)
        return Done(ticket.piece, found, where=self._owner.nodes.ran(where["node"], seconds), seconds=seconds)

    def _lost(self, ticket: Ticket, cause: str, memory: bool = False) -> Lost:
        if ticket.starts < TRIES:
            left = f"it begins again, try {ticket.starts + 1} of {TRIES}"
            self._reporter.say(f"[yellow]warning:[/yellow] {ticket.piece.label}: {escape(cause)}; {left}")
        return Lost(cause, memory)


def _cause(errors: Any, error: BaseException) -> tuple[str, bool]:
    """Return of what a try died, and whether that was memory."""
    if isinstance(error, errors.OutOfMemoryError):
        return MEMORY, True
    if isinstance(error, errors.NodeDiedError | errors.LocalRayletDiedError):
        return "its node died", False
    lost = isinstance(error, errors.ObjectLostError)
    return "what it needs was lost with a node" if lost else "its worker died", False


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1][:300]

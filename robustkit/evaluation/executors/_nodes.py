"""The nodes of a cluster: neutral names, what each did, and which share of the time it was busy. No torch, no Ray."""

from __future__ import annotations

from dataclasses import dataclass, field

from robustkit.base.lines import spoken


@dataclass
class _Node:
    name: str
    host: str
    slots: float = 1.0  # pieces that it runs at a time
    pieces: int = 0
    seconds: float = 0.0


@dataclass
class Nodes:
    """Nodes in the order in which they first gave something."""

    open_seconds: float = 0.0  # while a session was open: only then was there anything to do
    _found: dict[str, _Node] = field(default_factory=dict)

    def ran(self, place: str, seconds: float) -> dict[str, str]:
        """Note that the node at a place, ``HOST/ID``, ended a piece; return what the record of it says."""
        host = place.rpartition("/")[0]
        node = self._found.setdefault(place, _Node(f"node-{len(self._found) + 1}", host))
        node.pieces, node.seconds = node.pieces + 1, node.seconds + seconds
        return {"node": node.name, "host": node.host}

    def has(self, place: str, slots: float) -> None:
        """Note how many pieces a node runs at a time."""
        if place in self._found:
            self._found[place].slots = max(1.0, slots)

    def lines(self) -> list[str]:
        """Return a line for each node."""
        whole = max(self.open_seconds, 1e-9)
        return [
            f"[dim]{n.name} ({n.host}): {n.pieces} pieces of work, busy {min(1.0, n.seconds / n.slots / whole):.0%} of "
            f"{spoken(self.open_seconds)}, {n.slots:.0f} at a time[/dim]"
            for n in self._found.values()
        ]

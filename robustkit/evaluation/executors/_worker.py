"""What the function of a piece is given: the device, the shared things by name, and how far it may spread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch

from robustkit.base.progress import Advance, unseen


class Once:
    """Values made once and kept, by key; two threads that want one wait for the first.

    ``most``: how many are kept, the last used; None: all.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most, self._made, self._lock = most, dict[Any, Any](), threading.RLock()

    def __call__(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return the value of a key, made now if it is not there."""
        with self._lock:
            value = self._made.pop(key) if key in self._made else make()
            self._made[key] = value  # the last one used
            while self._most is not None and len(self._made) > self._most:
                del self._made[next(iter(self._made))]
            return value

    def forget(self, key: Any) -> None:
        """Let a value go."""
        with self._lock:
            self._made.pop(key, None)


class Worker:
    """What the function of a piece is given.

    Attributes
    ----------
    device : torch.device
        Where to compute.
    workers : int
        How many batches of the piece may run side by side, each in its share of torch's threads.
    advance : Advance
        Moves the piece's bar on, where somebody sees it.
    halvings : int
        How often memory ran out in an earlier try: halve the batch as often.
    """

    def __init__(
        self, device: torch.device, workers: int, shared: Callable[[str], Any], once: Once,
        advance: Advance = unseen, halvings: int = 0,
    ) -> None:  # fmt: skip
        self.device, self.workers, self.advance, self.halvings = device, workers, advance, halvings
        self._shared, self._once = shared, once

    def get(self, name: str) -> Any:
        """Return a shared thing: an ensemble on the device, in eval mode."""
        return self._shared(name)

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return what was made for the key in this process, made now if nothing was."""
        return self._once(key, make)

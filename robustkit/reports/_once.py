"""What several reports need of the same results is made once while they are written together."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from robustkit.records.schema import Results

T = TypeVar("T")
_MADE: ContextVar[dict[Any, Any] | None] = ContextVar("_MADE", default=None)


@contextmanager
def together() -> Iterator[None]:
    """Keep what :func:`once` makes until the end of the block; each thread and each block has its own."""
    token = _MADE.set({})
    try:
        yield
    finally:
        _MADE.reset(token)


def once(make: Callable[..., Iterable[T]], results: Results, *also: Hashable) -> list[T]:
    """Return what ``make(results, *also)`` yields; inside :func:`together` what it yielded for these before."""
    made = _MADE.get()
    if made is None:
        return list(make(results, *also))
    key = (make, id(results), also)
    if key not in made:
        made[key] = (list(make(results, *also)), results)  # the results too, so that no others take their id
    found: list[T] = made[key][0]
    return found

"""Out-of-distribution images: any dataset without its labels, and sets that need no download.

A set of the second kind is a file with ``function(split) -> Pixels``: images of any size with one or three channels,
made without chance of their own, perhaps from the evaluated images. ``distance`` in the decorator says how far they are
by default. What is measured on the sets is in the suite of that name. This module never imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable

from robustkit import data
from robustkit.base import options
from robustkit.base.errors import UserError, unknown
from robustkit.base.registry import Registry

ood_set = Registry("ood_set", "robustkit.ood")
NEAR, FAR, UNKNOWN = "near", "far", "unknown"
Named = tuple[str, str]  # a distance and a set


def chosen(text: str | Iterable[str] | None) -> tuple[Named, ...] | None:
    """Read ``near:NAME,far:NAME,NAME`` into distances and names, checked; None, for what ships, stays None.

    Raises
    ------
    UserError
        If a name is unknown, lacks its path or is there twice.
    """
    if text is None:
        return None
    found: dict[str, str] = {}
    for item in options.names(text, kind="out-of-distribution set"):
        said, colon, rest = item.partition(":")
        distance, name = (said, rest) if colon and said in (NEAR, FAR) else ("", item)
        if name in found:
            raise UserError(f"out-of-distribution set '{name}' is named twice; name it once, as near or as far.")
        found[name] = distance or _own_distance(name)
        _check(name)
    return tuple((distance, name) for name, distance in found.items())


def shipped() -> tuple[Named, ...]:
    """Return the sets that need no download, near ones first."""
    return tuple(sorted(((e.facts["distance"], e.name) for e in ood_set), key=lambda named: named[0] != NEAR))


def _own_distance(name: str) -> str:
    return str(ood_set.entry(name).facts["distance"]) if name in ood_set else UNKNOWN


def _check(name: str) -> None:
    kind = name.partition(":")[0]
    if name in ood_set:
        return
    if kind not in data.dataset:
        raise unknown("out-of-distribution set", kind, [*ood_set.names(), *data.dataset.names()])
    data.describe(name)

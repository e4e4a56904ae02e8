"""What travels to a worker as code, before anything else: it compares versions, then calls the package over there.

This module is sent by value, so that a worker without robustkit can answer at all. It imports nothing outside the
standard library.
"""

from __future__ import annotations

from typing import Any


def versions() -> dict[str, str]:
    """Return the versions that a piece of work depends on; empty where something is not installed."""
    import importlib.metadata
    import platform

    try:
        from robustkit.base.version import __version__ as own
    except ImportError:
        own = ""
    try:
        from robustkit.base.source import digest

        source = digest()
    except ImportError:  # robustkit is not installed there, or an older one
        source = ""
    try:
        torch = importlib.metadata.version("torch").partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        torch = ""
    return {
        "robustkit": own,
        "its source": source,
        "torch": torch,
        "python": ".".join(platform.python_version_tuple()[:2]),
    }


def place() -> dict[str, str]:
    """Return which node this is."""
    import socket

    import ray

    return {"node": f"{socket.gethostname()}/{ray.get_runtime_context().get_node_id()[:8]}"}


def run(
    expected: dict[str, str], payload: Any, names: list[str], *values: Any
) -> tuple[str, Any, float, dict[str, str]]:
    """Run a piece where the versions are those of the driver; see :func:`robustkit.evaluation.executors._there.run`.

    A process that has compared them does not look at what is installed again: it has loaded what it will use.
    """
    import sys

    where = place()
    there: Any = sys.modules.get("robustkit.evaluation.executors._there")
    if there is None or there.met != expected:
        found = versions()
        if found != expected:
            return "versions", found, 0.0, where
        from robustkit.evaluation.executors import _there

        there, _there.met = _there, expected
    return (*there.run(payload, names, values), where)


def look() -> tuple[dict[str, str], dict[str, str]]:
    """Return the versions here, and which node this is."""
    return versions(), place()

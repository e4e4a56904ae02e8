"""One instance of Ray, or one connection to a cluster, for several runs of one command. Never imports torch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from robustkit.evaluation.executors._address import LOCAL, read
from robustkit.evaluation.executors._cluster import Cluster


@contextlib.contextmanager
def in_common(runs: Sequence[object]) -> Iterator[None]:
    """Start or join once what all configurations of a grid name as their executor; each run finds it there.

    Nothing is done where they name different ones, or threads: each run then has its own.
    """
    named = {str(getattr(one, "executor", LOCAL)) for one in runs}
    address = read(named.pop()) if len(named) == 1 else None
    if address is None or not address.remote:
        yield
        return
    cluster = Cluster(address)
    try:
        yield
    finally:
        cluster.close()

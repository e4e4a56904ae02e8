"""The memory of this process, in each of the ways to count it: with libraries that others map too, or without."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def memory() -> dict[str, float]:
    """Return MiB now: ``rss`` (resident), ``pss`` (what is shared, in shares), ``uss`` (this process's alone).

    ``peak`` is the most that was ever resident. Where the system does not tell them apart, all are that.
    """
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    try:
        lines = [line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]]
    except OSError:
        return {"rss": peak, "pss": peak, "uss": peak, "peak": peak}
    kib = {words[0]: int(words[1]) for words in lines}
    uss = kib["Private_Clean:"] + kib["Private_Dirty:"]
    return {"rss": kib["Rss:"] / 1024, "pss": kib["Pss:"] / 1024, "uss": uss / 1024, "peak": peak}

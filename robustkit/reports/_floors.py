"""What is proven of each ensemble, beside the ceiling of the same samples: for the curves. Never imports matplotlib."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from robustkit.records.schema import Results
from robustkit.records.schema_proofs import CertifiedResult
from robustkit.reports import _format as f
from robustkit.reports._labels import groups_of

PROVEN = "certified"
Floors = dict[tuple[str, str], "list[Floor]"]  # by norm and ensemble


@dataclass(frozen=True)
class Floor:
    """Between what the truth lies at one budget: the share that is proven, and the one that no attack broke."""

    eps: float
    low: float
    high: float

    @property
    def unsettled(self) -> str:
        """The share that neither settles, in %."""
        return f.percent(max(0.0, self.high - self.low))


def floor_points(results: Results) -> Floors:
    """Return floors with their ceilings by ascending eps, after the clean accuracy of the same samples.

    Over seeds means of those that several seeds have. Without attacks there is no ceiling, and nothing is returned.
    """
    known = {e["id"]: e["id"] for e in results["ensembles"]}
    seeds = groups_of(results)
    known |= {i: group for group, ids in seeds.items() for i in ids.values()}
    at = defaultdict[tuple[str, str], dict[float, list[CertifiedResult]]](lambda: defaultdict(list))
    for r in results.get("certified", []):
        if r["ceiling"] is not None and r["ensemble"] in known:
            at[r["norm"], known[r["ensemble"]]][r["eps"]].append(r)
    found = {}
    for key, by in at.items():
        own = [_mean(eps, by[eps]) for eps in sorted(by) if not seeds or len(by[eps]) > 1]
        if own:
            clean = statistics.fmean(r["clean_accuracy"] for r in by[own[0].eps])
            found[key] = [Floor(0.0, clean, clean), *own]
    return found


def _mean(eps: float, same: Sequence[CertifiedResult]) -> Floor:
    ceilings = [r["ceiling"] for r in same if r["ceiling"] is not None]
    return Floor(eps, statistics.fmean(r["floor"] for r in same), statistics.fmean(ceilings))

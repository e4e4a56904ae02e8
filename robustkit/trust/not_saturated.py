"""Cross-entropy can still tell one image from another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robustkit.trust import Evidence, Finding, check, probe
from robustkit.trust._evidence import POINT, Bools
from robustkit.trust._stronger import stronger

if TYPE_CHECKING:
    from robustkit.trust._job import Job

GAP = 80.0  # between the two largest logits: the softmax of the second is then below the smallest float32


@probe("saturation", per="ensemble", rows="all", quick={"draws": 1}, full={"draws": 1})
def saturation(job: Job) -> dict[str, Bools]:
    """Whether the two largest fused outputs are more than 80 apart, so that their softmax is 1 and 0."""
    top = job.outputs(job.x).topk(2, dim=1).values
    return {"saturated": (top[:, 0] - top[:, 1] > GAP).numpy()}


@check(
    "not-saturated", source="Croce and Hein 2020, arXiv:2003.01690, section 4.1; Pintor et al. 2022, arXiv:2106.09947"
)
def not_saturated(evidence: Evidence) -> Finding | None:
    """At most one sample in a hundred is so sure that cross-entropy has no gradient left; not asked of other losses."""
    probed = evidence.facts.get("saturation")
    if probed is None or any(s.scale_free for s in evidence.counted):
        return None
    remedy = (stronger(),)
    advice = f"logits are so far apart that cross-entropy is blind: use a scale-free loss, {evidence.advised(*remedy)}"
    return Finding(probed.mean("saturated"), POINT, advice, remedy)

"""There is a gradient to follow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from robustkit.attacks import spec
from robustkit.trust import Evidence, Finding, check, probe
from robustkit.trust._evidence import POINT, Bools

if TYPE_CHECKING:
    from robustkit.trust._job import Job


@probe("gradient", per="ensemble", rows="all", quick={"steps": 1}, full={"steps": 1})
def gradient(job: Job) -> dict[str, Bools]:
    """Whether the gradient of the cross-entropy at x is zero everywhere, or not finite."""
    found = job.gradient()
    if found is None:  # the model cut it off: nothing reaches the image
        return {"zero": np.ones(len(job.x), bool), "not_finite": np.zeros(len(job.x), bool)}
    flat = found.flatten(1)
    finite = flat.isfinite().all(1)
    return {"zero": (finite & (flat == 0).all(1)).numpy(), "not_finite": (~finite).numpy()}


@check("gradients-available", source="Athalye et al. 2018, arXiv:1802.00420; Pintor et al. 2022, arXiv:2106.09947, I1")
def gradients_available(evidence: Evidence) -> Finding | None:
    """At most one sample in a hundred has a loss gradient that is zero everywhere."""
    probed = evidence.facts.get("gradient")
    if probed is None or not evidence.gradient:
        return None
    advice = "the model passes no gradient on: replace the step that cuts it off, and attack without gradients too"
    remedy = (spec("square"),)
    return Finding(probed.mean("zero"), POINT, f"{advice}, {evidence.advised(*remedy)}", remedy)


@check("gradients-finite", leaves="invalid", source="Carlini et al. 2019, arXiv:1902.06705, section 4")
def gradients_finite(evidence: Evidence) -> Finding | None:
    """No sample has a loss gradient that is NaN or infinite."""
    probed = evidence.facts.get("gradient")
    if probed is None or not evidence.gradient:
        return None
    advice = "the model's gradient is NaN or infinite on these samples: an attack cannot follow it; repair the model"
    return Finding(probed.mean("not_finite"), 0.0, advice)

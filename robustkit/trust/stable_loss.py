"""The loss is smooth enough for its gradient to mean something."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from robustkit.attacks import spec
from robustkit.trust import Evidence, Finding, check, probe
from robustkit.trust._stronger import stronger

if TYPE_CHECKING:
    from robustkit.trust._job import Job

ROUGH = 0.5


@probe("stability", per="budget", rows="all", quick={"draws": 10}, full={"draws": 100})
def stability(job: Job) -> dict[str, npt.NDArray[Any]]:
    """The mean relative change of the margin under noise that is uniform in half the ball."""
    import torch

    from robustkit.trust._job import apart

    at = job.margins(job.x[None])
    noisy = torch.cat([job.margins(part) for part in job.noisy(job.eps / 2, job.params["draws"])])
    changes = (apart(noisy, at) / at.abs().clamp(1e-12, torch.finfo(at.dtype).max)).clamp_max(1.0)
    return {"change": changes.mean(0).numpy()}


@check("stable-loss", source="Pintor et al. 2022, arXiv:2106.09947, indicator I2")
def stable_loss(evidence: Evidence) -> Finding | None:
    """Noise of half the budget changes the margin by at most half of it, each change counted up to all of it.

    The margin, max_{i != y} z_i - z_y, and not the cross-entropy: that one changes by its own size wherever a model is
    sure, whatever the model.
    """
    probed = evidence.facts.get("stability")
    if probed is None or not evidence.gradient:
        return None
    remedy = (stronger(), spec("square"))
    advice = f"the loss jumps about, its gradient says little: run {evidence.advised(*remedy)}"
    return Finding(probed.mean("change"), ROUGH, advice, remedy)

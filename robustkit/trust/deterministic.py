"""The same images give the same answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from robustkit.attacks import spec
from robustkit.trust import Evidence, Finding, check, probe

if TYPE_CHECKING:
    from robustkit.trust._job import Job

SAME = 1e-4  # difference of logits that rounding may make
DRAWS = 20  # that are advised for a randomised model


@probe("repeats", per="ensemble", rows="all", quick={"draws": 5}, full={"draws": 5})
def repeats(job: Job) -> dict[str, npt.NDArray[Any]]:
    """The largest difference of any logit between passes of the same batch, and whether the label changes."""
    from robustkit.trust._job import apart

    passes = [job.outputs(job.x) for _ in range(job.params["draws"])]
    first = passes[0]
    difference = np.max([apart(z, first).flatten(1).amax(1).numpy() for z in passes[1:]], axis=0)
    flipped = np.any([(z.argmax(1) != first.argmax(1)).numpy() for z in passes[1:]], axis=0)
    return {"difference": difference, "flipped": flipped}


@check(
    "deterministic", leaves="invalid", unit="of a logit", source="Athalye et al. 2018, arXiv:1802.00420, section 4.2"
)
def deterministic(evidence: Evidence) -> Finding | None:
    """Five passes of the same batch differ in no label and in no logit by more than 1e-4; not asked with --eot."""
    probed = evidence.facts.get("repeats")
    if probed is None or any(s.eot > 1 for s in evidence.counted):
        return None
    value = max(probed.of("difference").max(initial=0.0), float(probed.of("flipped").any()))
    remedy = (spec("quorum", restarts=4, eot=DRAWS),)
    advice = f"the model answers at random: attack the mean of its answers, run {evidence.advised(*remedy)}"
    return Finding(float(value), SAME, advice, remedy)

"""The model gives logits, as the losses of attacks need them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robustkit.attacks import spec
from robustkit.trust import Evidence, Finding, check, probe
from robustkit.trust._evidence import POINT, Bools
from robustkit.trust._stronger import stronger

if TYPE_CHECKING:
    from robustkit.trust._job import Job

SUM = 1e-3  # by which the sum of a row of probabilities may differ from 1
TIED = 3  # exactly equal smallest outputs: rounding does not do that, a clamp does


@probe("outputs", per="ensemble", rows="all", quick={"draws": 1}, full={"draws": 1})
def outputs(job: Job) -> dict[str, Bools]:
    """Whether a member's or the fused output is a row of probabilities, and whether the fused one is clamped."""
    rows = [*job.member_logits(job.x), job.outputs(job.x)]
    shares = [((z >= 0) & (z <= 1)).all(1) & ((z.sum(1) - 1).abs() < SUM) for z in rows]
    fused = rows[-1]
    tied = (fused == fused.amin(1, keepdim=True)).sum(1) >= min(TIED, fused.shape[1])
    return {"probabilities": sum(shares).bool().numpy(), "clamped": tied.numpy()}


@check(
    "logits-not-probabilities", source="Carlini and Wagner 2017, arXiv:1608.04644; Croce et al. 2022, arXiv:2202.13711"
)
def logits_not_probabilities(evidence: Evidence) -> Finding | None:
    """At most one output in a hundred is a row of probabilities, or a logarithm that was clamped."""
    probed = evidence.facts.get("outputs")
    if probed is None:
        return None
    value = max(probed.mean("probabilities"), probed.mean("clamped"))
    remedy = (stronger(), spec("square"))
    advice = "outputs are probabilities or clamped, which masks gradients: give the logits, or run "
    return Finding(value, POINT, advice + evidence.advised(*remedy), remedy)

"""Diversity of input attributions."""

from __future__ import annotations

from robustkit.defenses import Loss, Outputs, defense
from robustkit.defenses._terms import asked_again, mean_cross_entropy, safe_norm
from robustkit.functional.attribution import saliency
from robustkit.functional.precision import full


@defense(
    "attribution",
    source="design-diversity paper (Rosales et al. 2023), eq. 7 and 8",
    members=2,
    paper="design-diversity",
    paper_own={"*": {"params": {"lam": 0.001, "bounded": False}}},
)  # fmt: skip
def attribution(outputs: Outputs, *, lam: float = 0.2, bounded: bool = True) -> Loss:
    """Attribution diversity: members are rewarded for relying on different pixels.

    L = mean_m CE_m - lam * A, A = sum over channels and pixels of Var_m(a_m), averaged over the batch; a_m the
    absolute input gradient of the true class's logit (saliency as captum has it), Var the population's, in eval mode.

    The paper's A grows without limit as the logits do, and the paper found training unstable for every lam it tried
    (10 to 0.001, of which 0.001 lasted longest). Deviation: by default each a_m is L2-normalised first. Then
    A = 1 - |mean_m a_m|^2 lies in [0, 1 - 1/M], and lam is its largest share in the loss.

    Parameters
    ----------
    lam : float
        Weight of the diversity. The default is the paper's of its other losses.
    bounded : bool
        Whether to normalise; False is the paper's equation 8 as it stands, for showing how it fails.
    """
    members, batch = asked_again(outputs, "attribution")
    maps = saliency(members, batch.x, batch.y).abs().flatten(2)
    if bounded:
        maps = maps / safe_norm(maps)
    diversity = maps.var(0, correction=0).sum(1).mean()
    ce = mean_cross_entropy(full(outputs.logits), outputs.y, outputs.smoothing)
    return Loss(ce - lam * diversity, {"ce": ce.detach(), "diversity": diversity.detach()})

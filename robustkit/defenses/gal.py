"""GAL, gradient alignment loss: diversity training."""

from __future__ import annotations

import torch

from robustkit.defenses import Loss, Outputs, defense
from robustkit.defenses._terms import asked_again, mean_cross_entropy, pair_cosines, scale_free
from robustkit.functional.attribution import loss_gradients
from robustkit.functional.precision import full


@defense(
    "gal",
    source="Kariyappa and Qureshi 2019, arXiv:1901.09981, sections 3.2 and 4",
    members=2,
    paper="gal",
)
def gal(outputs: Outputs, *, lam: float = 0.5) -> Loss:
    """Gradient alignment: what raises the loss of one member should not raise that of another.

    L = mean_m CE_m + lam * log sum_(a<b) exp(cos(g_a, g_b)), averaged over the batch, g_m = grad_x CE_m: a smooth
    maximum of the coherence, the largest cosine of two members' gradients, which is what ``coherence`` reports.
    Deviations: gradients in eval mode, so that no other sample of the batch is in them; members keep their ReLUs,
    where the paper takes leaky ones; images without its Gaussian noise. The recipe is that of the comparison in
    arXiv:2009.14720.

    Parameters
    ----------
    lam : float
        Weight of the alignment; the paper's 0.5.
    """
    members, batch = asked_again(outputs, "gal")
    cosines = pair_cosines(scale_free(loss_gradients(members, batch.x, batch.y)))
    ce = mean_cross_entropy(full(outputs.logits), outputs.y, outputs.smoothing)
    alignment = torch.logsumexp(cosines, 1).mean()
    parts = {"ce": ce.detach(), "coherence": cosines.detach().amax(1).mean()}
    return Loss(ce + lam * alignment, parts)

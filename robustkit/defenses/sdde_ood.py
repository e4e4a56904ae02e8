"""SDDE with outlier exposure."""

from __future__ import annotations

from typing import Literal

from robustkit.defenses import Loss, Outputs, defense
from robustkit.defenses.sdde import sdde
from robustkit.functional.precision import full


@defense(
    "sdde-ood",
    source="Dereka et al. 2024, arXiv:2305.11616, eq. 10 and 11, algorithm 2",
    own_batches=True,
    needs=("maps", "outliers"),
    members=2,
    paper="sdde",
    paper_own={
        "mnist": {"fusion": "mean-logit", "params": {"lam": 0.1}},
        "*": {"fusion": "mean-logit", "params": {"lam": 0.005}},
    },
)  # fmt: skip
def sdde_ood(
    outputs: Outputs, *, outliers: str, lam: float = 0.005, beta: float = 0.5,
    maps: Literal["gradcam", "saliency"] = "gradcam", layer: str = "",
) -> Loss:  # fmt: skip
    """SDDE that also learns to be unsure of outliers (Hendrycks et al. 2018), seen in the same forward pass.

    L = L_SDDE - beta * mean over members, outliers and classes of log softmax(z)_l: the cross-entropy to the uniform
    distribution. Deviation: all members see the same outliers; in the paper each draws its own.

    Parameters
    ----------
    outliers : str
        Name of a dataset, whose images the training loop loads; the loss gets their logits.
    lam, maps, layer
        As in ``sdde``.
    beta : float
        Weight of the outliers; the paper's 0.5. It trained SDDE-OOD on CIFAR and ImageNet only: lam on MNIST is that
        of SDDE.

    Raises
    ------
    UserError
        If a member has no convolutional maps or the layer is unknown.
    """
    if outputs.outliers is None:
        raise ValueError("the loss 'sdde-ood' needs Outputs with outliers: member logits of them, (M, O, L).")
    loss = sdde(outputs, lam=lam, maps=maps, layer=layer)
    uniform = -full(outputs.outliers).log_softmax(2).mean()
    return Loss(loss.total + beta * uniform, {**loss.parts, "outliers": uniform.detach()})

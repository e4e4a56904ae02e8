"""DICE, diversity by conditional redundancy adversarial estimation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustkit.base.errors import UserError
from robustkit.defenses import Loss, Outputs, defense
from robustkit.defenses._terms import mean_cross_entropy
from robustkit.functional.precision import full

Score = Callable[[Tensor, Tensor, Tensor], Tensor]


class Discriminator(nn.Module):
    """Tells features of two members on one image from those on two images of one class: logit (B,), large for one.

    The sizes are those of the SDDE authors' code, which compares with DICE: the label as 64 numbers, layers of 256,
    256 and 100, leaky ReLU of slope 0.2.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.label = nn.Embedding(classes, 64)
        sizes = (2 * width + 64, 256, 256, 100)
        layers: list[nn.Module] = []
        for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True):
            layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))

    def forward(self, first: Tensor, second: Tensor, y: Tensor) -> Tensor:
        """Return logits (B,) of features (B, D) twice and labels (B,)."""
        z: Tensor = self.layers(torch.cat([first, second, self.label(y)], 1)).squeeze(1)
        return z


def discriminator(features: Sequence[int], classes: int) -> nn.Module:
    """Build what ``dice`` trains along, for members with so many features each."""
    if len(set(features)) > 1:
        raise UserError(
            f"defense 'dice' compares features of members, which have different numbers of them "
            f"({', '.join(map(str, features))}); use one architecture for all."
        )
    return Discriminator(features[0], classes)


@defense(
    "dice",
    source="Rame and Cord 2021, arXiv:2101.05544; weight and tau of the SDDE paper, arXiv:2305.11616",
    needs=("features",),
    companion="discriminator",
    members=2,
    paper="sdde",
)  # fmt: skip
def dice(outputs: Outputs, *, weight: float = 0.2, tau: float = 10.0) -> Loss:
    """DICE: members' features must not tell of each other more than the label does.

    L = mean_m CE_m + weight * mean over pairs i < j of R_ij + L_D. R_ij = mean_b tau tanh(w(f_i, f_j, y) / tau)
    estimates the conditional mutual information I(f_i; f_j | y) with the discriminator's logit w = log of its odds
    that both features are of one image; its weights are held. L_D is the discriminator's own cross-entropy, on
    detached features: pairs of one image against pairs of two images of one class of the batch, one half each.

    Deviations from the paper: features are the numbers themselves, without the paper's variational bottleneck
    (stochastic features and its KL term); the discriminator shares the members' optimiser and schedule and makes one
    step for one of theirs; the weight is constant, not ramped up. As in the paper, the members see only the first
    term of the Donsker-Varadhan bound. Where no class occurs twice in a batch, the discriminator rests.

    Parameters
    ----------
    weight : float
        Weight of the redundancy; the SDDE paper's 0.2.
    tau : float
        The log odds are clipped smoothly to (-tau, tau).
    """
    module = outputs.companion
    if module is None or len(outputs.features) != len(outputs.logits):
        raise ValueError("the loss 'dice' needs Outputs with features of each member and its companion.")
    y, logits = outputs.y, full(outputs.logits)
    features = [full(f) for f in outputs.features]
    held = {name: p.detach() for name, p in module.named_parameters()}

    def frozen(*inputs: Tensor) -> Tensor:
        z: Tensor = torch.func.functional_call(module, held, inputs)
        return z

    redundancy = torch.stack([tau * torch.tanh(frozen(a, b, y) / tau).mean() for a, b in combinations(features, 2)])
    own = discriminator_loss(module, [f.detach() for f in features], y)
    ce = mean_cross_entropy(logits, y, outputs.smoothing)
    parts = {"ce": ce.detach(), "redundancy": redundancy.mean().detach(), "discriminator": own.detach()}
    return Loss(ce + weight * redundancy.mean() + own, parts)


def discriminator_loss(score: Score, features: Sequence[Tensor], y: Tensor) -> Tensor:
    """Return the mean cross-entropy of a discriminator over pairs of members and samples that have a partner."""
    rows, partners = same_class_partners(y)
    if not len(rows):
        return features[0].new_zeros(())
    losses = [
        functional.softplus(-score(a, b, own)).mean() + functional.softplus(score(a, other, own)).mean()
        for a, b, other, own in _pairs(features, y, rows, partners)
    ]
    return torch.stack(losses).mean() / 2


def _pairs(
    features: Sequence[Tensor], y: Tensor, rows: Tensor, partners: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    for first, second in combinations(features, 2):
        yield first[rows], second[rows], second[partners], y[rows]


def same_class_partners(y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the samples whose class occurs again, and for each the next one of its class (cyclically), both (P,).

    Batches are shuffled, so that the next one is any one.
    """
    order = torch.argsort(y, stable=True)
    sorted_y = y[order].contiguous()
    place = torch.arange(len(y), device=y.device)
    start, end = torch.searchsorted(sorted_y, sorted_y), torch.searchsorted(sorted_y, sorted_y, right=True)
    following = torch.where(place + 1 < end, place + 1, start)
    paired = end - start > 1
    return order[paired], order[following[paired]]

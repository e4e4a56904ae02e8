"""A faster copy of an ensemble for crafting, proven equal on real images; success is judged by the original."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from robustkit.ensemble import Ensemble, Member

TOLERANCE = 1e-4  # by which logits may differ, relative to the largest of them


@torch.no_grad()
def crafting_copy(ensemble: Ensemble, x: Tensor) -> tuple[Ensemble, str]:
    """Return a copy with batch norm folded into the convolutions, or the ensemble itself, and why it is that.

    Folding saves the forward and the backward pass of every batch norm: a third of the time of a small ResNet. Members
    that cannot be traced, or whose logits on ``x`` (B, C, H, W) differ by more than rounding, stay as they are.
    """
    members, kept = [], []
    for index, member in enumerate(ensemble.members):
        try:
            folded = _fold(member)
            before, after = member(x), folded(x)
        except Exception as error:  # noqa: BLE001 - whatever tracing a stranger's module raises: it stays as it is
            members.append(member)
            kept.append(f"member {index}: {type(error).__name__}")
            continue
        limit = TOLERANCE * float(before.abs().max().clamp_min(1.0))
        if bool((before - after).abs().max() <= limit) and torch.equal(before.argmax(1), after.argmax(1)):
            members.append(folded)
        else:
            members.append(member)
            kept.append(f"member {index}: its logits change")
    if len(kept) == len(members):
        return ensemble, "; ".join(kept)
    return Ensemble(members, ensemble.fusion).eval(), "; ".join(kept)


def _fold(member: nn.Module) -> nn.Module:
    from torch.fx.experimental.optimization import fuse

    folded = copy.deepcopy(member)
    if isinstance(folded, Member):
        folded.network = fuse(folded.network)
    else:
        folded = fuse(folded)
    return folded.eval()

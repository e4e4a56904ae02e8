"""The relaxed cell as one writes it down: every operation of every edge by itself, one after the other.

The reference that :mod:`robustkit.search._relaxed` is tested against and measured with. :func:`like` copies the weights
of a fast cell, so that both compute the same function.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustkit.models._cell import operation
from robustkit.models._genotype import OPERATIONS
from robustkit.search._relaxed import RelaxedCell

CONVOLUTIONS = {
    "sep_conv_3x3": ("sep3a", "sep3b"), "sep_conv_5x5": ("sep5a", "sep5b"), "dil_conv_3x3": ("dil3",),
    "dil_conv_5x5": ("dil5",),
}  # fmt: skip


class MixedOperation(nn.Module):
    """The weighted sum of every operation on one edge (DARTS, eq. 2), on some of the channels (PC-DARTS, eq. 1)."""

    def __init__(self, channels: int, partial: int) -> None:
        super().__init__()
        self.seen, self.partial = channels // partial, partial
        self.operations = nn.ModuleList([operation(name, self.seen, affine=False) for name in OPERATIONS])

    def forward(self, x: Tensor, alpha: Tensor) -> Tensor:
        """Map (B, C, H, W) and the weights (O,) to (B, C, H, W)."""
        part = x[:, : self.seen]
        total = sum(weight * act(part) for weight, act in zip(alpha, self.operations, strict=True))
        if self.partial == 1:
            return total
        whole = torch.cat([total, x[:, self.seen :]], 1)
        return whole.unflatten(1, (self.partial, self.seen)).transpose(1, 2).flatten(1, 2)


class PlainCell(nn.Module):
    """Maps what :class:`robustkit.search._relaxed.RelaxedCell` maps."""

    def __init__(self, nodes: int, channels: int, partial: int) -> None:
        super().__init__()
        self.nodes = nodes
        self.edges = [(parent, node) for node in range(2, nodes - 1) for parent in range(node)]
        self.mixed = nn.ModuleList([MixedOperation(channels, partial) for _ in self.edges])

    def forward(self, x0: Tensor, x1: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        """Map two inputs (B, C, H, W), alpha (E, O) and beta (E,) to (B, C * inner nodes, H, W)."""
        nodes = [x0, x1]
        for node in range(2, self.nodes - 1):
            into = [at for at, edge in enumerate(self.edges) if edge[1] == node]
            nodes.append(sum(beta[at] * self.mixed[at](nodes[self.edges[at][0]], alpha[at]) for at in into))
        return torch.cat(nodes[2:], 1)


@torch.no_grad()
def like(fast: RelaxedCell) -> PlainCell:
    """Return a plain cell with the weights of a fast one."""
    plain = PlainCell(fast.space.nodes, fast.seen * fast.partial, fast.partial)
    plain.to(next(fast.parameters()).dtype)
    for at, (parent, node) in enumerate(plain.edges):
        held, place = fast.outgoing[parent], node - max(2, parent + 1)
        for operation_, names in CONVOLUTIONS.items():
            act = plain.mixed[at].operations[OPERATIONS.index(operation_)]
            for name, part in zip(names, act if len(names) == 2 else [act], strict=True):
                for conv, kind in ((part[1], "depthwise"), (part[2], "pointwise")):
                    conv.weight.copy_(getattr(held, f"{name}_{kind}")[place].reshape(conv.weight.shape))
    return plain

"""The relaxed cell: every operation of every edge, computed in few and large steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustkit.base.errors import UserError
from robustkit.models._cell import CellNetwork, pool
from robustkit.models._genotype import OPERATIONS
from robustkit.models._residual import he_initialise
from robustkit.search._space import Mixture, Space

EPSILON = 1e-5  # of batch norm
MAXIMUM, MEAN, SKIP, SEP3, SEP5, DIL3, DIL5 = range(len(OPERATIONS))
FIRST = ((SEP3, 3, 1), (SEP5, 5, 1), (DIL3, 3, 2), (DIL5, 5, 2))  # operation, kernel, dilation of the first convolution
SECOND = ((SEP3, 3), (SEP5, 5))  # what separable operations have a second one of


class Outgoing(nn.Module):
    """All operations on all edges out of one node.

    Parameters
    ----------
    edges : int
        How many edges leave the node, E.
    channels : int
        Channels C that operations see.
    """

    def __init__(self, edges: int, channels: int) -> None:
        super().__init__()
        self.edges, self.channels = edges, channels
        for operation, kernel, _ in FIRST:
            self._add(f"first{operation}", kernel)
        for operation, kernel in SECOND:
            self._add(f"second{operation}", kernel)

    def _add(self, name: str, kernel: int) -> None:
        depthwise = torch.empty(self.edges, self.channels, kernel, kernel)
        pointwise = torch.empty(self.edges, self.channels, self.channels)
        nn.init.normal_(depthwise, std=(2 / kernel**2) ** 0.5)
        nn.init.normal_(pointwise, std=(2 / self.channels) ** 0.5)
        self.register_parameter(f"{name}_depthwise", nn.Parameter(depthwise))
        self.register_parameter(f"{name}_pointwise", nn.Parameter(pointwise))

    def kernel(self, name: str) -> Tensor:
        """Return depthwise and pointwise convolution as one, (E, C out, C in, k, k)."""
        depthwise, pointwise = self.get_parameter(f"{name}_depthwise"), self.get_parameter(f"{name}_pointwise")
        return pointwise[..., None, None] * depthwise[:, None]

    def forward(self, x: Tensor, joint: Tensor) -> Tensor:
        """Map (B, C, H, W) and the weights (E, O) of every edge's operations to the weighted sums (B, E, C, H, W)."""
        positive = functional.relu(x)
        found = {}
        for operation, kernel, dilation in FIRST:
            weight = self.kernel(f"first{operation}").flatten(0, 1)
            found[operation] = functional.conv2d(positive, weight, None, 1, dilation * (kernel // 2), dilation)
        for operation, kernel in SECOND:
            weight = self.kernel(f"second{operation}").flatten(0, 1)
            between = functional.relu(normalised(found[operation]))
            found[operation] = functional.conv2d(between, weight, None, 1, kernel // 2, 1, self.edges)
        total = sum(
            normalised(z, joint[:, operation].repeat_interleave(self.channels)) for operation, z in found.items()
        )
        out = total.unflatten(1, (self.edges, self.channels))
        same = torch.stack([normalised(pool("max_pool_3x3", x)), normalised(pool("avg_pool_3x3", x)), x])
        return out + torch.einsum("eo,obchw->bechw", joint[:, : SKIP + 1], same)


def normalised(x: Tensor, scale: Tensor | None = None) -> Tensor:
    """Return batch norm over the batch's own statistics, scaled by (C,)."""
    zero = None if scale is None else torch.zeros_like(scale)
    return functional.batch_norm(x, None, None, scale, zero, training=True, eps=EPSILON)


class RelaxedCell(nn.Module):
    """A cell whose nodes are weighted sums over edges of weighted sums over operations.

    Of each input of an edge the first ``1 / partial`` of the channels go through the operations and the others pass
    (PC-DARTS, Xu et al. 2020, arXiv:1907.05737, section 3.1); channels are shuffled afterwards. Batch norm takes the
    batch's own statistics.
    """

    def __init__(self, space: Space, channels: int, partial: int) -> None:
        super().__init__()
        if channels % partial:
            raise UserError(f"width {channels} cannot be divided by partial {partial}; give a width that can.")
        self.space, self.partial, self.seen = space, partial, channels // partial
        last = space.nodes - 2
        self.outgoing = nn.ModuleList(Outgoing(last - max(source, 1), self.seen) for source in range(last))

    def forward(self, x0: Tensor, x1: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        """Map two inputs (B, C, H, W), alpha (E, O) and beta (E,) to (B, C * inner nodes, H, W)."""
        joint = alpha * beta[:, None]
        nodes: list[Tensor] = [x0, x1]
        sums: dict[int, Tensor] = {}
        for source, outgoing in enumerate(self.outgoing):
            if source >= 2:
                nodes.append(self._shuffled(sums.pop(source)))
            x = nodes[source]
            rows = [at for at, (parent, _) in enumerate(self.space.edges) if parent == source]
            made = outgoing(x[:, : self.seen], joint[rows])
            for at, row in enumerate(rows):
                node = self.space.edges[row][1]
                part = made[:, at]
                if self.partial > 1:
                    part = torch.cat([part, beta[row] * x[:, self.seen :]], 1)
                sums[node] = sums[node] + part if node in sums else part
        nodes.append(self._shuffled(sums.pop(self.space.nodes - 2)))
        return torch.cat(nodes[2:], 1)

    def _shuffled(self, x: Tensor) -> Tensor:
        if self.partial == 1:
            return x
        return x.unflatten(1, (self.partial, self.seen)).transpose(1, 2).flatten(1, 2)


class RelaxedNetwork(nn.Module):
    """Stem, reduction, one relaxed cell, reduction, classifier: what is searched on.

    Parameters
    ----------
    width : int
        Channels of a node.
    partial : int
        One of how many channels goes through the operations.
    """

    def __init__(self, space: Space, channels: int, classes: int, width: int = 16, partial: int = 4) -> None:
        super().__init__()
        cell = RelaxedCell(space, width, partial)
        self.network = CellNetwork([cell], space.length, channels, classes, width)
        he_initialise(self)

    def forward(self, x: Tensor, mixture: Mixture) -> Tensor:
        """Map images (B, C, H, W) to logits (B, L)."""
        logits: Tensor = self.network(x, mixture.alpha, mixture.beta)
        return logits

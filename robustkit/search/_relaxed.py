"""The relaxed cell: every operation of every edge, computed in few and large steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustkit.base.errors import UserError
from robustkit.models._cell import CellNetwork, pool
from robustkit.models._genotype import OPERATIONS
from robustkit.models._residual import he_initialise
from robustkit.search._space import Mixture, Space

EPSILON = 1e-5  # of batch norm
SEP3, SEP5, DIL3, DIL5 = (OPERATIONS.index(f"{kind}_conv_{k}x{k}") for kind in ("sep", "dil") for k in (3, 5))
SAME = slice(0, 3)  # maximum, mean, skip: what is computed once for all edges out of a node
# Of each convolution of an operation: its name, the operation, kernel and dilation. Separable ones have a second.
FIRST = (("sep3a", SEP3, 3, 1), ("sep5a", SEP5, 5, 1), ("dil3", DIL3, 3, 2), ("dil5", DIL5, 5, 2))
SECOND = (("sep3b", SEP3, 3, 1), ("sep5b", SEP5, 5, 1))


class Outgoing(nn.Module):
    """All operations on all edges out of one node, in few and large steps.

    The depthwise and the pointwise convolution of an operation are one convolution, whose kernel is their product, and
    that of all edges together: one more output channel, or one more group, for each edge. Pooling is computed once.
    Every operation's weight is the scale of its last batch norm, so that weighing costs nothing. All is laid out in
    memory as small convolutions like it best.

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
        for name, _, kernel, _ in FIRST + SECOND:
            depthwise = torch.empty(edges, channels, kernel, kernel)
            pointwise = torch.empty(edges, channels, channels)
            nn.init.normal_(depthwise, std=(2 / kernel**2) ** 0.5)
            nn.init.normal_(pointwise, std=(2 / channels) ** 0.5)
            self.register_parameter(f"{name}_depthwise", nn.Parameter(depthwise))
            self.register_parameter(f"{name}_pointwise", nn.Parameter(pointwise))

    def _kernel(self, name: str) -> Tensor:
        """Return depthwise and pointwise convolution as one, for all edges: (E * C, C, k, k)."""
        depthwise, pointwise = self.get_parameter(f"{name}_depthwise"), self.get_parameter(f"{name}_pointwise")
        return (pointwise[..., None, None] * depthwise[:, None]).flatten(0, 1)

    def forward(self, x: Tensor, joint: Tensor) -> Tensor:
        """Map (B, C, H, W) and the weights (E, O) of every edge's operations to the weighted sums (B, E, C, H, W)."""
        x = _channels_last(x)
        positive, found = functional.relu(x), {}
        for name, operation, size, dilation in FIRST:
            found[operation] = self._convolved(name, positive, size, dilation, 1)
        for name, operation, size, dilation in SECOND:
            between = functional.relu(normalised(found[operation]))
            found[operation] = self._convolved(name, between, size, dilation, self.edges)
        # In one piece each: with a strided scale and channels last, batch norm of torch 2.14 gives a wrong gradient.
        scales = joint.T.repeat_interleave(self.channels, 1).contiguous()
        weighed = [normalised(z, scales[operation]) for operation, z in found.items()]
        total = weighed[0] + weighed[1] + weighed[2] + weighed[3]
        pooled = normalised(torch.cat([pool("max_pool_3x3", x), pool("avg_pool_3x3", x)], 1))
        mixing = torch.einsum("eo,cd->ecod", joint[:, SAME], torch.eye(self.channels).to(joint))
        same = functional.conv2d(torch.cat([pooled, x], 1), mixing.reshape(self.edges * self.channels, -1, 1, 1))
        return _channels_last(total + same).view(len(x), self.edges, self.channels, *x.shape[2:])

    def _convolved(self, name: str, x: Tensor, size: int, dilation: int, groups: int) -> Tensor:
        return functional.conv2d(x, self._kernel(name), None, 1, dilation * (size // 2), dilation, groups)


class _ChannelsLast(torch.autograd.Function):
    """The same tensor, and its gradient, with channels last in memory: small convolutions are fastest with both."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.contiguous(memory_format=torch.channels_last)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.contiguous(memory_format=torch.channels_last)


def _channels_last(x: Tensor) -> Tensor:
    out: Tensor = _ChannelsLast.apply(x)
    return out


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

    uses = True, True

    def __init__(self, space: Space, channels: int, partial: int) -> None:
        super().__init__()
        if channels % partial:
            raise UserError(f"width {channels} cannot be divided by partial {partial}; give a width that can.")
        self.space, self.partial, self.seen = space, partial, channels // partial
        rows = [[at for at, edge in enumerate(space.edges) if edge[0] == node] for node in range(space.nodes - 2)]
        self.rows = rows  # of each node, which edges leave it
        self.outgoing = nn.ModuleList([Outgoing(len(own), self.seen) for own in rows])

    def forward(self, x0: Tensor, x1: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        """Map two inputs (B, C, H, W), alpha (E, O) and beta (E,) to (B, C * inner nodes, H, W)."""
        joint = alpha * beta[:, None]
        sums = self._outgoing(0, x0, joint, beta) + self._outgoing(1, x1, joint, beta)
        inner = [self._shuffled(sums[:, 0])]
        for node in self.space.inner[:-1]:
            sums = sums[:, 1:] + self._outgoing(node, inner[-1], joint, beta)
            inner.append(self._shuffled(sums[:, 0]))
        return torch.cat(inner, 1)

    def _outgoing(self, node: int, x: Tensor, joint: Tensor, beta: Tensor) -> Tensor:
        """Return what a node gives to each later one, (B, E, C, H, W)."""
        rows = self.rows[node]
        made: Tensor = self.outgoing[node](x[:, : self.seen], joint[rows])
        if self.partial == 1:
            return made
        return torch.cat([made, beta[rows][:, None, None, None] * x[:, None, self.seen :]], 2)

    def _shuffled(self, x: Tensor) -> Tensor:
        if self.partial == 1:
            return x
        batch, _, height, width = x.shape
        return x.reshape(batch, self.partial, self.seen, height, width).transpose(1, 2).flatten(1, 2)


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

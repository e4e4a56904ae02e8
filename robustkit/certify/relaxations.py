"""Operations that are not affine: linear bounds over intervals of their input, whose slopes can be chosen.

ReLU: z+ <= u (z - l) / (u - l) and z+ >= alpha z for any alpha in [0, 1], where l < 0 < u (Zhang et al. 2018, CROWN,
arXiv:1811.00866; the slopes are optimised as in Xu et al. 2021, arXiv:2011.13824). Maximum pooling: at least the input
with the largest lower bound; where that is above all others' upper bounds this is exact, else at most the largest upper
bound (Boopathy et al. 2019, arXiv:1811.12395, has tighter planes).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from robustkit.certify.operations import Backward, Interval, Operation


@dataclass(frozen=True)
class Relu(Operation):
    """max(z, 0)."""

    relaxed = True

    def forward(self, *inputs: Tensor) -> Tensor:
        """Clip at zero."""
        return inputs[0].clamp_min(0)

    def interval(self, *inputs: Interval) -> Interval:
        """Clip both ends."""
        return inputs[0][0].clamp_min(0), inputs[0][1].clamp_min(0)

    def relaxed_backward(self, a: Tensor, low: Tensor, high: Tensor, slope: Tensor | None) -> Backward:
        """Return coefficients on z of a lower bound of sum a relu(z), and its constant.

        Parameters
        ----------
        low, high : Tensor, (B, *shape)
            Bounds of z.
        slope : Tensor or None
            alpha, broadcast over ``a``; None: 1 where the input reaches further above zero than below, else 0.
        """
        on = (low >= 0).to(a.dtype)
        open_ = (low < 0) & (high > 0)
        steep = torch.where(open_, high / (high - low).clamp_min(torch.finfo(a.dtype).tiny), on)
        lower = (high > -low).to(a.dtype) if slope is None else slope
        lower = torch.where(open_, lower, on)
        bias = (a.clamp_max(0) * torch.where(open_, -low * steep, torch.zeros_like(low))).flatten(2).sum(-1)
        return [a * torch.where(a > 0, lower, steep)], bias


@dataclass(frozen=True)
class MaxPool(Operation):
    """Maximum over windows."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    relaxed = True

    def forward(self, *inputs: Tensor) -> Tensor:
        """Pool."""
        return functional.max_pool2d(inputs[0], self.kernel, self.stride, self.padding, self.dilation)

    def interval(self, *inputs: Interval) -> Interval:
        """Pool both ends."""
        return self.forward(inputs[0][0]), self.forward(inputs[0][1])

    def relaxed_backward(self, a: Tensor, low: Tensor, high: Tensor, slope: Tensor | None) -> Backward:
        """Return coefficients on the input of a lower bound of sum a maxpool(z), and its constant; no slope is free."""
        sure, at = functional.max_pool2d(
            low, self.kernel, self.stride, self.padding, self.dilation, return_indices=True
        )
        most = self.forward(high)
        decided = self._others(high, at) <= sure
        above, below = a.clamp_min(0), a.clamp_max(0)
        on_input = above + below * decided
        bias = (below * torch.where(decided, torch.zeros_like(most), most)).flatten(2).sum(-1)
        places = at.flatten(2).expand(len(a), *at.flatten(2).shape)
        made = a.new_zeros(*a.shape[:3], low.shape[-2] * low.shape[-1])
        made = made.scatter_add(-1, places, on_input.flatten(-2))
        return [made.view(*made.shape[:-1], *low.shape[-2:])], bias

    def _others(self, high: Tensor, at: Tensor) -> Tensor:
        """Return the largest upper bound of each window but for the input at the given place of the image."""
        (h, w), (ph, pw) = high.shape[-2:], self.padding
        padded = functional.pad(high, (pw, pw, ph, ph), value=-torch.inf)
        place = torch.arange(h * w, device=high.device, dtype=high.dtype).view(1, 1, h, w).expand_as(high)
        places = functional.pad(place, (pw, pw, ph, ph), value=-1)
        values, where = (self._windows(part) for part in (padded, places))
        mine = where == at.flatten(2).unsqueeze(2).to(where.dtype)
        return values.masked_fill(mine, -torch.inf).amax(2).view_as(at)

    def _windows(self, x: Tensor) -> Tensor:
        """Return the windows of (B, C, H, W) as (B, C, k, windows)."""
        cut = functional.unfold(x.flatten(0, 1).unsqueeze(1), self.kernel, self.dilation, 0, self.stride)
        return cut.view(*x.shape[:2], *cut.shape[1:])

"""Operations that are affine in what they are given: forward, over intervals, and backward for linear coefficients.

Coefficients are (S, B, *shape): S linear functions of each of B samples. Going backward, an operation turns the
coefficients of its output into those of its inputs and a constant (S, B). Nothing here rounds to either side: bounds
are computed in float64, whose rounding :func:`robustkit.certify.fusing.slack_of` covers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Interval = tuple[Tensor, Tensor]  # lower and upper bound of a node, each (B, *shape)
Shape = tuple[int, ...]
Backward = tuple[list[Tensor], Tensor | float]  # coefficients of each input, and a constant


class Operation:
    """One step of a network; ``relaxed`` says that it is not affine and needs bounds of its input to go backward."""

    relaxed = False

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the output (N, *shape) of inputs (N, ...)."""
        raise NotImplementedError

    def interval(self, *inputs: Interval) -> Interval:
        """Return bounds of the output from bounds of the inputs."""
        raise NotImplementedError

    def backward(self, a: Tensor) -> Backward:
        """Return what coefficients ``a`` (S, B, *shape) of the output are on the inputs."""
        raise NotImplementedError

    def to(self, dtype: torch.dtype) -> Operation:
        """Return the operation with its weights in a dtype."""
        held = {k: v.to(dtype) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **held) if held else self  # type: ignore[type-var]


def each(function: Callable[[Tensor], Tensor], a: Tensor) -> Tensor:
    """Apply a function of (N, ...) to coefficients (S, B, ...)."""
    made = function(a.flatten(0, 1))
    return made.reshape(*a.shape[:2], *made.shape[1:])


def total(a: Tensor, weights: Tensor) -> Tensor:
    """Return the sum of coefficients (S, B, *shape) times weights, over all but the first two dimensions."""
    return (a * weights).flatten(2).sum(-1)


@dataclass(frozen=True)
class Convolution(Operation):
    """A convolution; zero padding."""

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    size: tuple[int, int]  # height and width of the input

    def forward(self, *inputs: Tensor) -> Tensor:
        """Convolve."""
        return self._with(inputs[0], self.weight, self.bias)

    def interval(self, *inputs: Interval) -> Interval:
        """Bound by centre and radius."""
        low, high = inputs[0]
        centre = self._with((low + high) / 2, self.weight, self.bias)
        radius = self._with((high - low) / 2, self.weight.abs(), None)
        return centre - radius, centre + radius

    def backward(self, a: Tensor) -> Backward:
        """Convolve transposed."""
        rest = [
            n + 2 * p - d * (k - 1) - 1 - s * (o - 1)
            for n, p, d, k, s, o in zip(
                self.size, self.padding, self.dilation, self.weight.shape[2:], self.stride, a.shape[-2:], strict=True
            )
        ]
        made = each(
            lambda part: functional.conv_transpose2d(
                part, self.weight, None, self.stride, self.padding, rest, self.groups, self.dilation
            ),
            a,
        )
        return [made], 0.0 if self.bias is None else a.sum((-1, -2)) @ self.bias

    def _with(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return functional.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)


@dataclass(frozen=True)
class Linear(Operation):
    """A linear layer on the last dimension."""

    weight: Tensor
    bias: Tensor | None

    def forward(self, *inputs: Tensor) -> Tensor:
        """Multiply."""
        return functional.linear(inputs[0], self.weight, self.bias)

    def interval(self, *inputs: Interval) -> Interval:
        """Bound by centre and radius."""
        low, high = inputs[0]
        centre = self.forward((low + high) / 2)
        radius = functional.linear((high - low) / 2, self.weight.abs())
        return centre - radius, centre + radius

    def backward(self, a: Tensor) -> Backward:
        """Multiply transposed."""
        return [a @ self.weight], 0.0 if self.bias is None else total(a, self.bias)


@dataclass(frozen=True)
class Scale(Operation):
    """factor * x + shift, elementwise; both broadcast over (N, *shape). Batch norm of fixed statistics is one."""

    factor: Tensor
    shift: Tensor

    def forward(self, *inputs: Tensor) -> Tensor:
        """Scale and shift."""
        return inputs[0] * self.factor + self.shift

    def interval(self, *inputs: Interval) -> Interval:
        """Scale both ends, swapped where the factor is negative."""
        ends = [end * self.factor + self.shift for end in inputs[0]]
        return torch.minimum(*ends), torch.maximum(*ends)

    def backward(self, a: Tensor) -> Backward:
        """Scale."""
        return [a * self.factor], total(a, self.shift)


@dataclass(frozen=True)
class Reshape(Operation):
    """The same numbers in another shape."""

    before: Shape
    after: Shape

    def forward(self, *inputs: Tensor) -> Tensor:
        """Reshape."""
        return inputs[0].reshape(-1, *self.after)

    def interval(self, *inputs: Interval) -> Interval:
        """Reshape both ends."""
        return self.forward(inputs[0][0]), self.forward(inputs[0][1])

    def backward(self, a: Tensor) -> Backward:
        """Reshape back."""
        return [a.reshape(*a.shape[:2], *self.before)], 0.0


@dataclass(frozen=True)
class Sum(Operation):
    """sum_i sign_i x_i: a residual addition, or a difference."""

    signs: tuple[float, ...]

    def forward(self, *inputs: Tensor) -> Tensor:
        """Add."""
        result: Tensor = sum(sign * x for sign, x in zip(self.signs, inputs, strict=True))  # type: ignore[assignment]
        return result

    def interval(self, *inputs: Interval) -> Interval:
        """Add the ends."""
        ends = [(lo, hi) if sign > 0 else (-hi, -lo) for sign, (lo, hi) in zip(self.signs, inputs, strict=True)]
        return sum(lo for lo, _ in ends), sum(hi for _, hi in ends)  # type: ignore[return-value]

    def backward(self, a: Tensor) -> Backward:
        """Give the coefficients to each."""
        return [a if sign > 0 else -a for sign in self.signs], 0.0


@dataclass(frozen=True)
class Concatenation(Operation):
    """Inputs side by side along a dimension of (N, *shape)."""

    dim: int
    sizes: tuple[int, ...]

    def forward(self, *inputs: Tensor) -> Tensor:
        """Put them side by side."""
        return torch.cat(inputs, self.dim)

    def interval(self, *inputs: Interval) -> Interval:
        """Put the ends side by side."""
        return torch.cat([lo for lo, _ in inputs], self.dim), torch.cat([hi for _, hi in inputs], self.dim)

    def backward(self, a: Tensor) -> Backward:
        """Cut the coefficients."""
        return list(torch.split(a, list(self.sizes), self.dim + 1)), 0.0


@dataclass(frozen=True)
class Positive(Operation):
    """A linear map without negative weights or constant: average pooling, means, zero padding, slices, permutations.

    Of x (N, *before) ``function`` returns (N, *after), for any N.
    """

    function: Callable[[Tensor], Tensor]
    before: Shape

    def forward(self, *inputs: Tensor) -> Tensor:
        """Apply it."""
        return self.function(inputs[0])

    def interval(self, *inputs: Interval) -> Interval:
        """Apply it to both ends."""
        return self.function(inputs[0][0]), self.function(inputs[0][1])

    def backward(self, a: Tensor) -> Backward:
        """Apply the transposed map, which is the gradient."""

        def transposed(part: Tensor) -> Tensor:
            with torch.enable_grad():
                z = part.new_zeros(len(part), *self.before).requires_grad_()
                (made,) = torch.autograd.grad(self.function(z), z, part, create_graph=part.requires_grad)
            return made

        return [each(transposed, a)], 0.0


def elements(shape: Sequence[int]) -> int:
    """Return how many numbers a shape holds."""
    return math.prod(shape)


def constant(value: Any, like: Tensor) -> Tensor:
    """Return a number or tensor as a float64 tensor on the device of another."""
    return torch.as_tensor(value, device=like.device).detach().to(torch.float64)

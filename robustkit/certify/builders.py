"""What each torch function is as an operation with bounds; by the function's name, in-place or not.

A builder is given the places of what was computed from the image, the output, and the arguments of the call. It
returns its node, or None where the call is one that has no bound: a product of two such values, say.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn import functional
from torch.nn.modules.utils import _pair

from robustkit.certify.operations import Concatenation, Convolution, Linear, Positive, Reshape, Scale, Sum, constant
from robustkit.certify.recording import Places
from robustkit.certify.relaxations import MaxPool, Relu

Node = int | None


def _conv2d(
    p: Places, out: Tensor, x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Node:  # fmt: skip
    if x not in p or weight in p or bias in p:
        return None
    stride, dilation = _pair(stride), _pair(dilation)
    if isinstance(padding, str):
        spans = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        if padding == "same" and any(span % 2 for span in spans):
            return None
        padding = tuple(span // 2 for span in spans) if padding == "same" else 0
    operation = Convolution(
        weight.detach(), None if bias is None else bias.detach(), tuple(stride), tuple(_pair(padding)),
        tuple(dilation), groups, p.shape(x)[-2:],  # type: ignore[arg-type]
    )  # fmt: skip
    return p.add(operation, (x,), out)


def _linear(p: Places, out: Tensor, x: Any, weight: Any, bias: Any = None) -> Node:
    if x not in p or weight in p or bias in p:
        return None
    return p.add(Linear(weight.detach(), None if bias is None else bias.detach()), (x,), out)


def _relu(p: Places, out: Tensor, x: Any, inplace: bool = False) -> Node:
    return p.add(Relu(), (x,), out)


def _batch_norm(
    p: Places, out: Tensor, x: Any, mean: Any, var: Any, weight: Any = None, bias: Any = None, training: bool = False,
    momentum: float = 0.1, eps: float = 1e-5,
) -> Node:  # fmt: skip
    if training or mean is None or x not in p:
        return None
    view = (1, -1, *[1] * (len(p.shape(x)) - 1))
    factor = (var.double() + eps).rsqrt() * (1.0 if weight is None else weight.double())
    shift = (0.0 if bias is None else bias.double()) - mean.double() * factor
    return p.add(Scale(factor.detach().view(view), shift.detach().view(view)), (x,), out)


def _max_pool2d(
    p: Places, out: Tensor, x: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Node:  # fmt: skip
    if ceil_mode or return_indices:
        return None
    pairs = [_pair(v) for v in (kernel_size, stride or kernel_size, padding, dilation)]
    return p.add(MaxPool(*(tuple(pair) for pair in pairs)), (x,), out)


def _positive(p: Places, out: Tensor, x: Any, function: Callable[[Tensor], Tensor]) -> Node:
    return p.add(Positive(function, p.shape(x)), (x,), out)


def _avg_pool2d(p: Places, out: Tensor, x: Any, *args: Any, **kwargs: Any) -> Node:
    return _positive(p, out, x, lambda z: functional.avg_pool2d(z, *args, **kwargs))


def _adaptive_avg_pool2d(p: Places, out: Tensor, x: Any, output_size: Any) -> Node:
    return _positive(p, out, x, lambda z: functional.adaptive_avg_pool2d(z, output_size))


def _adaptive_max_pool2d(p: Places, out: Tensor, x: Any, output_size: Any, return_indices: bool = False) -> Node:
    if return_indices or tuple(_pair(output_size)) != (1, 1):
        return None
    whole = p.shape(x)[-2:]
    return p.add(MaxPool(whole, whole, (0, 0), (1, 1)), (x,), out)  # type: ignore[arg-type]


def _pad(p: Places, out: Tensor, x: Any, pad: Any, mode: str = "constant", value: Any = None) -> Node:
    if value not in (None, 0) and mode == "constant" or len(pad) > 2 * len(p.shape(x)):
        return None
    return _positive(p, out, x, lambda z: functional.pad(z, pad, mode))


def _interpolate(p: Places, out: Tensor, x: Any, *args: Any, mode: str = "nearest", **kwargs: Any) -> Node:
    if mode not in ("nearest", "nearest-exact", "bilinear", "area"):
        return None  # bicubic weights are negative in part
    return _positive(p, out, x, lambda z: functional.interpolate(z, *args, **{**kwargs, "mode": mode}))


def _mean(p: Places, out: Tensor, x: Any, dim: Any = None, keepdim: bool = False, **_: Any) -> Node:
    rank = len(p.shape(x)) + 1
    dims = [d % rank for d in ([dim] if isinstance(dim, int) else dim or [0])]
    return None if 0 in dims else _positive(p, out, x, lambda z: z.mean(dims, keepdim))


def _sum(p: Places, out: Tensor, x: Any, dim: Any = None, keepdim: bool = False, **_: Any) -> Node:
    rank = len(p.shape(x)) + 1
    dims = [d % rank for d in ([dim] if isinstance(dim, int) else dim or [0])]
    return None if 0 in dims else _positive(p, out, x, lambda z: z.sum(dims, keepdim))


def _getitem(p: Places, out: Tensor, x: Any, index: Any) -> Node:
    first = index[0] if isinstance(index, tuple) else index
    plain = isinstance(first, slice) and first == slice(None) or first is Ellipsis and out.dim() == len(p.shape(x)) + 1
    return _positive(p, out, x, lambda z: z[index]) if plain and out.shape[0] > 1 else None


def _permute(p: Places, out: Tensor, x: Any, *dims: Any) -> Node:
    order = tuple(dims[0]) if len(dims) == 1 else dims
    return _positive(p, out, x, lambda z: z.permute(order)) if order[0] == 0 else None


def _transpose(p: Places, out: Tensor, x: Any, first: int, second: int) -> Node:
    rank = len(p.shape(x)) + 1
    pair = first % rank, second % rank
    return None if 0 in pair else _positive(p, out, x, lambda z: z.transpose(*pair))


def _reshape(p: Places, out: Tensor, x: Any, *_: Any, **__: Any) -> Node:
    before, after = p.shape(x), tuple(out.shape[1:])
    if math.prod(before) != math.prod(after):  # samples were mixed, or put side by side
        return None
    return p.add(Reshape(before, after), (x,), out)


def _same(p: Places, out: Tensor, x: Any, *_: Any, **__: Any) -> Node:
    return p.of(x)


def _dropout(
    p: Places, out: Tensor, x: Any, probability: float = 0.5, training: bool = True, *_: Any, **k: Any
) -> Node:
    return None if training and k.get("p", probability) else p.of(x)


def _cat(p: Places, out: Tensor, tensors: Any, dim: int = 0) -> Node:
    dim = dim % out.dim()
    if dim == 0 or not all(x in p for x in tensors):
        return None
    return p.add(Concatenation(dim, tuple(x.shape[dim] for x in tensors)), tuple(tensors), out)


def _scaled(p: Places, out: Tensor, x: Any, factor: Any, shift: Any) -> Node:
    """Return factor * x + shift, where both are the same for every sample."""
    held = [constant(part, out) for part in (factor, shift)]
    for part in held:
        if part.dim() == out.dim() and part.shape[0] != 1 or part.dim() > out.dim():
            return None
    if tuple(out.shape[1:]) != p.shape(x):  # x was broadcast
        return None
    return p.add(Scale(*held), (x,), out)


def _sum_of(sign: float) -> Callable[..., Node]:
    def build(p: Places, out: Tensor, x: Any, y: Any, *, alpha: float = 1, **_: Any) -> Node:
        if x in p and y in p:
            same = alpha == 1 and p.shape(x) == p.shape(y)
            return p.add(Sum((1.0, sign)), (x, y), out) if same else None
        if x in p:
            return _scaled(p, out, x, 1.0, sign * alpha * constant(y, out))
        return _scaled(p, out, y, sign * alpha, constant(x, out))

    return build


def _rsub(p: Places, out: Tensor, x: Any, y: Any) -> Node:
    return _sum_of(-1.0)(p, out, y, x)


def _mul(p: Places, out: Tensor, x: Any, y: Any) -> Node:
    if x in p and y in p:
        return None
    value, factor = (x, y) if x in p else (y, x)
    return _scaled(p, out, value, constant(factor, out), 0.0)


def _div(p: Places, out: Tensor, x: Any, y: Any, *, rounding_mode: Any = None) -> Node:
    if y in p or rounding_mode:
        return None
    return _scaled(p, out, x, 1 / constant(y, out), 0.0)


def _neg(p: Places, out: Tensor, x: Any) -> Node:
    return _scaled(p, out, x, -1.0, 0.0)


_NAMED: dict[Callable[..., Node], tuple[str, ...]] = {
    _conv2d: ("conv2d",), _linear: ("linear",), _relu: ("relu", "relu_"), _batch_norm: ("batch_norm",),
    _max_pool2d: ("max_pool2d",), _avg_pool2d: ("avg_pool2d",), _adaptive_avg_pool2d: ("adaptive_avg_pool2d",),
    _adaptive_max_pool2d: ("adaptive_max_pool2d",), _pad: ("pad",), _interpolate: ("interpolate",), _mean: ("mean",),
    _sum: ("sum",), _getitem: ("__getitem__",), _permute: ("permute",), _transpose: ("transpose",),
    _reshape: ("flatten", "view", "reshape", "squeeze", "unsqueeze", "unflatten", "view_as"),
    _same: ("contiguous", "clone", "detach", "to", "float", "double", "type_as", "requires_grad_", "identity"),
    _dropout: ("dropout", "dropout2d"), _cat: ("cat", "concat"),
    _sum_of(1.0): ("add", "add_", "__add__", "__radd__", "__iadd__"),
    _sum_of(-1.0): ("sub", "sub_", "__sub__", "subtract"), _rsub: ("rsub", "__rsub__"),
    _mul: ("mul", "mul_", "multiply", "__mul__", "__rmul__"), _div: ("div", "div_", "true_divide", "__truediv__"),
    _neg: ("neg", "__neg__"),
}  # fmt: skip
BUILDERS: dict[str, Callable[..., Node]] = {name: build for build, names in _NAMED.items() for name in names}

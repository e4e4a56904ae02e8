"""Networks to graphs: which operations one forward pass calls, seen as it runs.

Observed (``TorchFunctionMode``, which is the calling thread's own), not traced symbolically: ``torch.fx`` patches
``nn.Module.__call__`` for the whole process while it traces. What a pass decides by the pixels' values cannot be read,
and is refused; that the graph is the network is checked on further images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_leaves

from robustkit.base.errors import UserError
from robustkit.certify.graph import Graph, Node, joined
from robustkit.certify.operations import Operation
from robustkit.ensembles.folding import same_logits

# Of a tensor's own properties, not of the values that it holds.
HARMLESS = {
    "__get__", "size", "dim", "numel", "stride", "is_contiguous", "element_size", "data_ptr", "is_floating_point",
    "ndimension", "type", "get_device", "__len__", "new_zeros", "new_ones", "new_tensor", "new_full", "new_empty",
    "zeros_like", "ones_like", "empty_like", "is_complex",
}  # fmt: skip
TRIED = 2  # images that are looked at: a constant that differs between samples shows


class Unbounded(UserError):
    """An operation has no bound."""


class Recorder(TorchFunctionMode):
    """Notes what is computed from an image; ``nodes`` is the graph so far."""

    def __init__(self, x: Tensor, builders: Mapping[str, Callable[..., Any]]) -> None:
        super().__init__()
        self.nodes = [Node(None, (), tuple(x.shape[1:]))]
        self._at = {id(x): 0}
        self._kept: list[Any] = [x]  # an id is a tensor's as long as it lives
        self._builders = builders

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        known = [leaf for leaf in tree_leaves((args, kwargs)) if self.follows(leaf)]
        if not known:
            return func(*args, **kwargs)
        places = {id(leaf): self._at[id(leaf)] for leaf in known}
        out = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name in HARMLESS:
            return self._property(func, out)
        if name not in self._builders or not isinstance(out, Tensor):
            raise Unbounded(_sentence(func))
        self._kept += [*known, out]
        before = _Places(self, places)
        found = self._builders[name](before, out, *args, **kwargs)
        if found is None:
            raise Unbounded(_sentence(func))
        self._at[id(out)] = found
        return out

    def follows(self, value: Any) -> bool:
        """Return whether a value is a tensor that was computed from the image."""
        return isinstance(value, Tensor) and id(value) in self._at

    def node(self, tensor: Tensor) -> int:
        """Return the node of a tensor."""
        return self._at[id(tensor)]

    def add(self, operation: Operation, inputs: tuple[int, ...], out: Tensor) -> int:
        """Add a node; return its place."""
        self.nodes.append(Node(operation, inputs, tuple(out.shape[1:])))
        return len(self.nodes) - 1

    def _property(self, func: Any, out: Any) -> Any:
        """Return a property of a followed tensor; one that is a view of its values cannot be followed."""
        if isinstance(out, Tensor) and getattr(func, "__name__", "") == "__get__":
            raise Unbounded(_sentence(func))
        return out


class _Places:
    """The nodes of the tensors that a call was given, as they were before it: it may have changed one in place."""

    def __init__(self, recorder: Recorder, places: Mapping[int, int]) -> None:
        self._recorder, self._places = recorder, places

    def __contains__(self, value: Any) -> bool:
        return isinstance(value, Tensor) and id(value) in self._places

    def of(self, value: Any) -> int | None:
        """Return the node of a value, None of one that was not computed from the image."""
        return self._places.get(id(value)) if isinstance(value, Tensor) else None

    def shape(self, value: Tensor) -> tuple[int, ...]:
        """Return the shape of a followed tensor, for one sample."""
        return self._recorder.nodes[self._places[id(value)]].shape

    def add(self, operation: Operation, values: tuple[Any, ...], out: Tensor) -> int:
        """Add a node that reads these values; return its place."""
        return self._recorder.add(operation, tuple(self._places[id(value)] for value in values), out)


Places = _Places


def read(members: nn.ModuleList | list[nn.Module], x: Tensor) -> Graph:
    """Return the graph of an ensemble's members, in float64.

    Parameters
    ----------
    x : Tensor
        Images (B, C, H, W) in [0, 1] of which two are looked at, and on all of which graph and members must agree.

    Raises
    ------
    UserError
        If a member does something that has no bound here, naming it.
    """
    return joined([_read(member, at, x) for at, member in enumerate(members)])


@torch.no_grad()
def _read(member: nn.Module, at: int, x: Tensor) -> Graph:
    from robustkit.certify.builders import BUILDERS

    few = x[:1].expand(TRIED, *x.shape[1:]).clone()
    few[1:] = (few[1:] + 0.37) % 1
    recorder = Recorder(few, BUILDERS)
    with recorder:
        try:
            out = member(few)
        except Unbounded as error:
            raise UserError(f"member {at} cannot be certified: {error}") from None
    if not recorder.follows(out):
        raise UserError(f"member {at} cannot be certified: how its output comes from the images cannot be followed.")
    graph = Graph(tuple(recorder.nodes), (recorder.node(out),)).to(torch.float64)
    both = torch.cat([few, x])
    if not same_logits(graph.forward(both.double())[0].to(out.dtype), member(both)):
        raise UserError(f"member {at} cannot be certified: it does not answer as one pass of it did.")
    return graph


def _sentence(func: Any) -> str:
    return (
        f"the operation '{resolve_name(func) or getattr(func, '__name__', func)}' has no bound here; those that have "
        "are convolution, linear, ReLU, addition, batch norm, average and maximum pooling, padding and reshaping."
    )

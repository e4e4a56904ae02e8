"""What is computed from an image, noted while a network runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_leaves

from robustkit.base.errors import UserError
from robustkit.certify.graph import Node
from robustkit.certify.operations import Operation

# Of a tensor's own properties, not of the values that it holds.
HARMLESS = {
    "__get__", "size", "dim", "numel", "stride", "is_contiguous", "element_size", "data_ptr", "is_floating_point",
    "ndimension", "type", "get_device", "__len__", "new_zeros", "new_ones", "new_tensor", "new_full", "new_empty",
    "zeros_like", "ones_like", "empty_like", "is_complex",
}  # fmt: skip


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


def _sentence(func: Any) -> str:
    return (
        f"the operation '{resolve_name(func) or getattr(func, '__name__', func)}' has no bound here; those that have "
        "are convolution, linear, ReLU, addition, batch norm, average and maximum pooling, padding and reshaping."
    )

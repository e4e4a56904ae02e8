"""What a network returned: a tensor, or several in tuples and dicts, one of which holds the logits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from robustkit.base.errors import UserError

DEPTH = 3  # of containers within containers


def entries(output: Any) -> dict[str, Tensor]:
    """Return all rows of floats (B, L) in what a network returned, by their places (``1``, ``out.0``).

    ``logits`` comes first, where there is one; the others in their order. The name of a bare tensor is empty. Maps of
    one pixel (B, L, 1, 1) count as rows.
    """
    return {name: flat for name, tensor in _walk(output, "", DEPTH) if (flat := _rows(tensor)) is not None}


def entry(output: Any, name: str) -> Tensor:
    """Return the entry of that name; the empty one is what usage makes of it (:func:`first_tensor`)."""
    if not name:
        return first_tensor(output)
    if name not in (found := entries(output)):
        raise UserError(f"the model returns {', '.join(found) or 'no rows of numbers'} and no '{name}'.")
    return found[name]


def first_tensor(output: Any) -> Tensor:
    """Return the logits (B, L) of what a network returned: a tensor, an object or dict with ``logits``, a tuple.

    Raises
    ------
    UserError
        If there is no such tensor.
    """
    found = output
    if isinstance(found, dict):
        found = found.get("logits", next(iter(found.values()), None))
    elif hasattr(found, "logits"):
        found = found.logits
    elif isinstance(found, list | tuple) and found:
        found = found[0]
    rows = _rows(found) if isinstance(found, Tensor) else None
    if rows is None:
        what = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(output).__name__
        raise UserError(f"the model returns {what}; a classifier must return one row of logits for each image (B, L).")
    return rows


def usual(output: Any) -> str | None:
    """Return the name of the entry that :func:`first_tensor` takes; None where it takes none."""
    try:
        first = first_tensor(output)
    except UserError:
        return None
    return next((name for name, t in entries(output).items() if t.data_ptr() == first.data_ptr()), None)


def _rows(tensor: Tensor) -> Tensor | None:
    if tensor.ndim == 4 and tuple(tensor.shape[2:]) == (1, 1):
        tensor = tensor.flatten(1)
    return tensor if tensor.ndim == 2 and tensor.is_floating_point() else None


def _walk(output: Any, name: str, depth: int) -> Iterator[tuple[str, Tensor]]:
    if isinstance(output, Tensor):
        yield name, output
        return
    if depth:
        for key, value in sorted(_parts(output), key=lambda part: part[0] != "logits"):
            yield from _walk(value, f"{name}.{key}" if name else key, depth - 1)


def _parts(output: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(output, Mapping):
        yield from ((str(key), value) for key, value in output.items())
    elif isinstance(output, tuple) and hasattr(output, "_fields"):
        yield from zip(output._fields, output, strict=True)
    elif isinstance(output, list | tuple):
        yield from ((str(index), value) for index, value in enumerate(output))
    elif hasattr(output, "logits"):
        yield from vars(output).items()
        if "logits" not in vars(output):  # a property
            yield "logits", output.logits

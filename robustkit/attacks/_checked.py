"""What a person gives an attack, checked once for all of them: images, labels, parameters, the model's answers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.base.errors import UserError
from robustkit.base.options import at_least, check_norm, coerce, in_range, number
from robustkit.base.registry import RUNTIME, Entry
from robustkit.data._checked import check_axes, check_box, labels


def checked(entry: Entry, attack: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the attack with the checks of the command in front of it, working under ``torch.no_grad()`` as well.

    What it returns takes ``(model, x, y, **parameters)`` and raises a :class:`UserError` that names what is wrong.
    Labels that the model has no output for are found by its first answer, so that no pass is added.
    """

    @functools.wraps(attack)
    def run(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, **given: Any) -> Tensor:
        if not callable(model):
            raise UserError(
                f"the model is of type {type(model).__name__}, which cannot be called; give a module or a function "
                "from images to logits."
            )
        params = _params(entry, given)
        x, y = _images(x), _labels(y, x)
        if not len(x):
            return x.detach().clone()
        # An attack is made of gradients, whatever the caller needs around it.
        with torch.inference_mode(False), torch.enable_grad():
            own = (tensor.clone() if tensor.is_inference() else tensor for tensor in (x, y))
            with _watched(model, entry.name, int(y.max())) as seen:
                return attack(seen, *own, **params)

    return run


def _params(entry: Entry, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters read to their types, within the ranges that the command accepts."""
    names = {p.name for p in entry.params}
    if "norm" in given and "norm" in names:
        check_norm(entry, given["norm"])
    params = {name: _read(entry, name, value) for name, value in given.items()}
    if "eps" in names:
        if params.get("eps") is None:
            if entry.facts.get("budget") == "minimum":  # which is the smallest it finds
                return params
            raise UserError(f"attack '{entry.name}' has no budget; give one in [0, 1], like eps=8/255.")
        norm = params.get("norm") or entry.defaults().get("norm") or entry.facts["norms"][0]
        if norm == "linf":
            in_range("eps", params["eps"])
    return params


def _read(entry: Entry, name: str, value: Any) -> Any:
    if name in RUNTIME or entry.param(name).annotation == "Any" or (name == "eps" and value is None):
        return value
    if name == "eps":  # at most 1 in linf only
        scalar = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
        at_least("eps", eps := number(scalar, "eps"), 0)
        return eps
    return coerce(entry, name, value)


def _images(x: Tensor) -> Tensor:
    kind = str(x.dtype).removeprefix("torch.") if isinstance(x, Tensor) else type(x).__name__
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise UserError(f"the images are {kind}; give a float tensor (B, C, H, W) with pixels from 0 to 1.")
    if x.dtype not in (torch.float32, torch.float64):  # steps and budgets are too fine for it
        raise UserError(f"the images are {kind}; give float32, x.float(), and let the model cast them.")
    if x.dim() != 4:  # which axis holds the channels is the model's to say
        check_axes(x.shape, "the images")
    if len(x):
        check_box(x, "the images")
    return x


def _labels(y: Tensor, x: Tensor) -> Tensor:
    if len(x) == 0 and isinstance(y, Tensor) and len(y) == 0:
        return y
    read = labels(y)
    if len(read) != len(x):
        raise UserError(f"there are {len(x)} images but {len(read)} labels; give one label for each image.")
    return read.to(x.device)


@contextmanager
def _watched(model: Callable[[Tensor], Tensor], name: str, highest: int) -> Iterator[Callable[[Tensor], Tensor]]:
    """Check what the model answers and cast it to the images' dtype; a module stays the one an attack may look into."""

    def look(x: Any, out: Any) -> Tensor:
        if not isinstance(out, Tensor) or out.dim() != 2:
            kind = f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else f"a {type(out).__name__}"
            raise UserError(
                f"attack '{name}' needs logits (B, L), but the model answers with {kind}; wrap it in a function that "
                "returns its logits."
            )
        if isinstance(x, Tensor) and len(out) != len(x):
            raise UserError(
                f"the model answers {len(x)} images with {len(out)} rows; attack '{name}' needs logits (B, L), a row "
                "for each image."
            )
        if highest >= out.shape[1]:
            raise UserError(
                f"the labels go up to {highest}, but the model has {out.shape[1]} outputs; number the classes from 0 "
                f"to {out.shape[1] - 1}."
            )
        if isinstance(x, Tensor) and x.requires_grad and torch.is_grad_enabled() and not out.requires_grad:
            raise UserError(
                f"the model passes no gradient back to its images, which attack '{name}' follows; remove its "
                "torch.no_grad() or detach(), or use square, which needs none."
            )
        return out.to(x.dtype) if isinstance(x, Tensor) else out

    if isinstance(model, nn.Module) and not isinstance(model, torch.jit.ScriptModule):  # that takes no hooks
        hook = model.register_forward_hook(lambda _, inputs, out: look(inputs[0] if inputs else None, out))
        try:
            yield model
        finally:
            hook.remove()
    else:
        yield lambda x: look(x, model(x))

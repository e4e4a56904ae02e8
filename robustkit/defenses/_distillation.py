"""Images whose features at a layer are those of another image."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustkit.base.errors import UserError
from robustkit.functional.norms import per_sample, project

LAYERS = (nn.Conv2d, nn.Linear)


class _Reached(Exception):
    """The layer has answered, with this: what lies behind it need not be computed."""


def distilled(
    member: nn.Module, x: Tensor, target: Tensor, depth: float, eps: float, steps: int, decay: float = 1.0
) -> Tensor:
    """Return images within eps of x (B, C, H, W) with features like those of ``target``, detached.

    z_{k+1} = Proj(z_k - eps / 10 sign(g_k)), g_k the momentum of the L1-normalised gradient of the mean squared
    difference of features, z_0 = x (Yang et al. 2020, arXiv:2009.14720, eq. 3). The best iterate is not sought: it is
    the last.

    Parameters
    ----------
    member : nn.Module
        In eval mode; its weights get no gradient.
    depth : float
        In [0, 1): which of the member's convolutions and linear layers, in the order in which they are called, gives
        the features: its output, before any activation.
    eps : float
        Budget, Linf, in pixel units.
    decay : float
        Decay factor of the momentum.
    """
    layer, wanted = _at(member, target, depth)
    z, momentum = x.detach().clone(), torch.zeros_like(x)
    for _ in range(steps):
        z.requires_grad_()
        with torch.enable_grad():
            apart = functional.mse_loss(features(member, layer, z), wanted, reduction="sum")
        (gradient,) = torch.autograd.grad(apart, z)
        size = gradient.abs().flatten(1).sum(1).clamp_min(torch.finfo(gradient.dtype).tiny)
        momentum = decay * momentum + gradient / per_sample(size, gradient)
        z = project(z.detach() - eps / 10 * momentum.sign(), x, eps, "linf")
    return z.detach()


def _at(member: nn.Module, x: Tensor, depth: float) -> tuple[nn.Module, Tensor]:
    """Return the layer at a depth, and what it gives for images the first time that it is called, detached."""
    outputs: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, given: Any, output: Tensor) -> None:
        outputs.setdefault(module, output)

    with contextlib.ExitStack() as hooks, torch.no_grad():
        for module in member.modules():
            if isinstance(module, LAYERS):
                hooks.enter_context(_hooked(module, keep))
        member(x)
    if not outputs:
        # Cause: a network of other operations alone, or one that hides its modules from hooks (TorchScript).
        raise UserError(
            "a member calls no convolution or linear layer whose features could be distilled; use another --arch."
        )
    return list(outputs.items())[int(depth * len(outputs))]


def features(member: nn.Module, layer: nn.Module, x: Tensor) -> Tensor:
    """Return what a layer of a member gives for images, the first time that it is called."""

    def stop(module: nn.Module, given: Any, output: Tensor) -> None:
        raise _Reached(output)

    with _hooked(layer, stop):
        try:
            member(x)
        except _Reached as reached:
            output: Tensor = reached.args[0]
            return output
    raise RuntimeError("a layer that was called for other images is not called for these")


@contextlib.contextmanager
def _hooked(layer: nn.Module, hook: Callable[..., None]) -> Iterator[None]:
    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()

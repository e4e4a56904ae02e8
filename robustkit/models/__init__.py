"""Architectures: robustkit's own (one file each), any torchvision classifier, any ``module:factory``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from robustkit.errors import UserError, unknown
from robustkit.registry import Registry

if TYPE_CHECKING:
    from torch import nn

model = Registry("model", "robustkit.models")
get = model.get


def check(arch: str) -> None:
    """Raise a :class:`UserError` unless ``arch`` can name an architecture; runs no code of the user's."""
    if ":" in arch:
        _factory_parts(arch)
    elif arch not in model:
        from robustkit.models._torchvision import names

        if arch not in names():
            raise unknown("architecture", arch, [*model.names(), "a torchvision name", "module:factory"], names())


def is_code(arch: str) -> bool:
    """Return whether an architecture name makes :func:`build` run somebody's code (``module:factory``)."""
    return ":" in arch


def build(arch: str, channels: int, classes: int, params: Mapping[str, Any] | None = None) -> nn.Module:
    """Build a network from images (B, channels, H, W) to logits (B, classes), with fresh weights.

    Parameters
    ----------
    arch : str
        A registered name, a torchvision classifier's name, or ``module:factory``. A factory is called with
        ``channels=, classes=`` where its signature takes them.
    params : mapping
        Further keyword arguments of the builder.

    Raises
    ------
    UserError
        If the name is unknown, the module or factory cannot be found, or the factory returns no module.
    """
    check(arch)
    if is_code(arch):
        return _from_factory(arch, channels, classes, dict(params or {}))
    if arch in model:
        network: nn.Module = model.get(arch)(channels=channels, classes=classes, **dict(params or {}))
        return network
    from robustkit.models._torchvision import build as build_torchvision

    return build_torchvision(arch, channels, classes, dict(params or {}))


def _factory_parts(arch: str) -> tuple[str, str]:
    module, _, factory = arch.partition(":")
    if not module or not factory.isidentifier() or not all(p.isidentifier() for p in module.split(".")):
        raise UserError(
            f"architecture '{arch}' is not of the form module:factory (for instance mypackage.nets:resnet)."
        )
    return module, factory


def _from_factory(arch: str, channels: int, classes: int, params: dict[str, Any]) -> nn.Module:
    import importlib
    import inspect
    import sys

    from torch import nn

    module_name, name = _factory_parts(arch)
    if "" not in sys.path:
        sys.path.insert(0, "")  # like `python -m`: the user's module may lie in the current directory
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UserError(
            f"architecture '{arch}': cannot import '{module_name}' ({error}); is it on PYTHONPATH?"
        ) from error
    factory = getattr(module, name, None)
    if not callable(factory):
        raise UserError(f"architecture '{arch}': module '{module_name}' has no callable '{name}'.")
    accepted = inspect.signature(factory).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    known = {"channels": channels, "classes": classes}
    network = factory(**{k: v for k, v in known.items() if takes_all or k in accepted}, **params)
    if not isinstance(network, nn.Module):
        raise UserError(f"architecture '{arch}' returned {type(network).__name__}, not a torch.nn.Module.")
    return network

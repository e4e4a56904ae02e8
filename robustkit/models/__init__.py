"""Architectures: robustkit's own, torchvision's and timm's classifiers, anybody's factory.

An architecture of ours is one function of ``channels`` and ``classes`` in one file; it returns a module that turns
images into logits, and the registry finds it. Networks of torchvision and timm, and factories of others, are built by
the same call. Weights do not come from here: they are trained, or read from a checkpoint or from the file that is
audited.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from robustkit.base import source
from robustkit.base.errors import UserError, unknown
from robustkit.base.registry import Registry
from robustkit.models import _files

if TYPE_CHECKING:
    from torch import nn

model = Registry("model", "robustkit.models")
get = model.get
TIMM, GENOTYPE = "timm/", "genotype:"


def check(arch: str) -> None:
    """Raise a :class:`UserError` unless ``arch`` can name an architecture; runs no code of the user's."""
    if is_code(arch):
        factory_parts(arch)
    elif arch.startswith(GENOTYPE):
        resolve(arch)
    elif arch.startswith(TIMM):
        from robustkit.models._timm import check as check_timm

        check_timm(arch.removeprefix(TIMM))
    elif arch not in model:
        from robustkit.models._torchvision import names

        if arch not in names():
            known = [
                *model.names(), "a torchvision name", "timm/NAME", "genotype:FILE", "module:factory",
                "path/to/file.py:factory",
            ]  # fmt: skip
            raise unknown("architecture", arch, known, names())


def is_code(arch: str) -> bool:
    """Return whether :func:`build` runs somebody's code for it (``module:factory``, ``path/to/file.py:factory``)."""
    return ":" in arch and not arch.startswith(GENOTYPE)


def as_named(recorded: str, arch: str | None) -> str:
    """Return an architecture of a checkpoint as ``arch`` names it: a file of code may lie elsewhere by now."""
    is_file = is_code(recorded) and ".py:" in recorded
    return arch if arch is not None and is_file and _bare(recorded) == _bare(arch) else recorded


def consented(recorded: str, arch: str | None) -> bool:
    """Return whether an architecture of a checkpoint runs no code of somebody's, or that which ``arch`` names."""
    return not is_code(recorded) or as_named(recorded, arch) == arch


def _bare(arch: str) -> str:
    return arch.replace("\\", "/").rpartition("/")[2]


def source_digest(arch: str) -> str:
    """Return the SHA-256 of the file that an architecture is code of; empty for any other, and where there is none.

    What the file imports is not in it. Of a file that has been run it is what was in it then. Only a module's packages
    are run; what is wrong with any of it is said where the network is built.
    """
    import hashlib
    import importlib.util

    if not is_code(arch):
        return ""
    try:
        name, _ = factory_parts(arch)
        if name.endswith(".py"):
            return hashlib.sha256(_files.source(name)).hexdigest()
        _search_here()
        spec = importlib.util.find_spec(name)
        return source.of_file(str(spec.origin)) if spec and spec.has_location else ""
    except (UserError, ImportError, ValueError, OSError):
        return ""


def resolve(arch: str, params: Mapping[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
    """Return an architecture as a checkpoint records it, which needs no file: of ``genotype:FILE`` what FILE holds.

    Any other comes back as it is, with a copy of its parameters. A :class:`UserError` says what is wrong with the file.
    """
    if not arch.startswith(GENOTYPE):
        return arch, dict(params or {})
    from robustkit.models._genotype import read

    found, network = read(arch.removeprefix(GENOTYPE))
    return GENOTYPE.removesuffix(":"), {"genotype": found.to_json(), **network, **dict(params or {})}


def build(arch: str, channels: int, classes: int, params: Mapping[str, Any] | None = None) -> nn.Module:
    """Build a network from images (B, channels, H, W) to logits (B, classes), with fresh weights.

    Parameters
    ----------
    arch : str
        A registered name, a torchvision classifier's name, ``timm/NAME`` (extra ``timm``), ``genotype:FILE`` (a cell
        that `robustkit search` found), ``module:factory`` or ``path/to/file.py:factory``. A factory is called with
        ``channels=, classes=`` where its signature takes them.
    params : mapping
        Further keyword arguments of the builder.

    Raises
    ------
    UserError
        If the name is unknown, the module or factory cannot be found, or the factory returns no module.
    """
    check(arch)
    arch, arguments = resolve(arch, params)
    if is_code(arch):
        return _from_factory(arch, channels, classes, arguments)
    if arch in model:
        network: nn.Module = model.get(arch)(channels=channels, classes=classes, **arguments)
        return network
    if arch.startswith(TIMM):
        from robustkit.models._timm import build as build_timm

        return build_timm(arch.removeprefix(TIMM), channels, classes, arguments)
    from robustkit.models._torchvision import build as build_torchvision

    return build_torchvision(arch, channels, classes, arguments)


def factory_parts(arch: str) -> tuple[str, str]:
    """Return module, or file, and factory of an architecture that is code; a :class:`UserError` names a fault."""
    module, _, factory = arch.rpartition(":")
    is_file = module.endswith(".py")
    if not factory.isidentifier() or not (is_file or all(p.isidentifier() for p in module.split("."))):
        raise UserError(
            f"architecture '{arch}' is not of the form module:factory (for instance mypackage.nets:resnet) "
            "or path/to/file.py:factory."
        )
    if is_file and not _files.here(module):
        raise UserError(f"architecture '{arch}': there is no file '{module}'; name the file that defines '{factory}'.")
    return module, factory


def imported(module_name: str, arch: str) -> ModuleType:
    """Import the module of an architecture; a :class:`UserError` says why that cannot be done."""
    import importlib

    _search_here()
    try:
        return importlib.import_module(module_name)
    except ImportError as error:
        # Cause: Python does not find the module, or something that it imports.
        raise UserError(
            f"architecture '{arch}': cannot import '{module_name}' ({error}); is it on PYTHONPATH?"
        ) from error


def _search_here() -> None:
    """Let modules be found in the current directory, as `python -m` does: the user's may lie there."""
    import sys

    if "" not in sys.path:
        sys.path.insert(0, "")


def _from_factory(arch: str, channels: int, classes: int, params: dict[str, Any]) -> nn.Module:
    import inspect

    from torch import nn

    module_name, name = factory_parts(arch)
    is_file = module_name.endswith(".py")
    module = _files.module_of(module_name, arch) if is_file else imported(module_name, arch)
    factory = getattr(module, name, None)
    if not callable(factory):
        raise UserError(
            f"architecture '{arch}': module '{module_name}' has no callable '{name}'; name a function or class of it."
        )
    accepted = inspect.signature(factory).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    known = {"channels": channels, "classes": classes}
    network = factory(**{k: v for k, v in known.items() if takes_all or k in accepted}, **params)
    if not isinstance(network, nn.Module):
        raise UserError(
            f"architecture '{arch}' returned {type(network).__name__}, not a torch.nn.Module; "
            "name a factory that returns the network."
        )
    return network

"""Architectures: robustkit's own, torchvision's and timm's classifiers, anybody's factory.

An architecture of ours is one function of ``channels`` and ``classes`` in one file; it returns a module that turns
images into logits, and the registry finds it. Networks of torchvision and timm, and factories of others, are built by
the same call. Weights do not come from here: they are trained, or read from a checkpoint or from the file that is
audited.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from robustkit.base.errors import UserError, unknown
from robustkit.base.registry import Registry

if TYPE_CHECKING:
    from torch import nn

model = Registry("model", "robustkit.models")
get = model.get
TIMM, GENOTYPE = "timm/", "genotype:"


def check(arch: str) -> None:
    """Raise a :class:`UserError` unless ``arch`` can name an architecture; runs no code of the user's."""
    if is_code(arch):
        _factory_parts(arch)
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


def _factory_parts(arch: str) -> tuple[str, str]:
    module, _, factory = arch.rpartition(":")
    is_file = module.endswith(".py")
    if not factory.isidentifier() or not (is_file or all(p.isidentifier() for p in module.split("."))):
        raise UserError(
            f"architecture '{arch}' is not of the form module:factory (for instance mypackage.nets:resnet) "
            "or path/to/file.py:factory."
        )
    if is_file and not Path(module).is_file():
        raise UserError(f"architecture '{arch}': there is no file '{module}'; name the file that defines '{factory}'.")
    return module, factory


def _module_of_file(path: Path, arch: str) -> ModuleType:
    """Run a file as a module of its own, once per process; its folder is importable, as it is for a script."""
    import hashlib
    import importlib.util
    import sys

    path = path.resolve()
    name = f"_robustkit_arch_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"architecture '{arch}': '{path}' cannot be imported as Python; give a file that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[name] = module  # before it runs, so that dataclasses and pickles in it find their module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        reason = " ".join(str(error).split())[:300]
        # Cause: the file itself raises an error when it is run.
        raise UserError(
            f"architecture '{arch}': running '{path}' failed ({type(error).__name__}: {reason}); mend the file."
        ) from error
    return module


def _imported(module_name: str, arch: str) -> ModuleType:
    import importlib
    import sys

    if "" not in sys.path:
        sys.path.insert(0, "")  # like `python -m`: the user's module may lie in the current directory
    try:
        return importlib.import_module(module_name)
    except ImportError as error:
        # Cause: Python does not find the module, or something that it imports.
        raise UserError(
            f"architecture '{arch}': cannot import '{module_name}' ({error}); is it on PYTHONPATH?"
        ) from error


def _from_factory(arch: str, channels: int, classes: int, params: dict[str, Any]) -> nn.Module:
    import inspect

    from torch import nn

    module_name, name = _factory_parts(arch)
    is_file = module_name.endswith(".py")
    module = _module_of_file(Path(module_name), arch) if is_file else _imported(module_name, arch)
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

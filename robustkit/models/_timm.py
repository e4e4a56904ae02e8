"""Any timm classifier by name, without its downloaded weights; needs the extra ``timm``."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from torch import nn

from robustkit.base.errors import UserError, unknown
from robustkit.base.installing import install_command

LOADING = ("checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")  # these unpickle


def _timm() -> Any:
    try:
        import timm
    except ImportError:
        raise UserError(f"timm's architectures need the extra; run {install_command('timm')}.") from None
    return timm


def installed() -> bool:
    """Return whether the extra is there; imports nothing."""
    try:
        return find_spec("timm") is not None
    except ValueError:  # another module stands in its place
        return False


def ends() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield every architecture with the names of its first convolutions and last layers, as timm notes them."""
    timm = _timm()
    for name in timm.list_models():
        known = timm.get_pretrained_cfg(name)
        named = (known.first_conv, known.classifier) if known is not None else ()
        yield name, tuple(layer for one in named for layer in ([one] if isinstance(one, str) else one or ()))


def check(name: str) -> None:
    """Raise a :class:`UserError` unless timm is installed and has a model of that name."""
    if not _timm().is_model(name):
        raise unknown("timm architecture", name, ["those of timm.list_models()"], _timm().list_models())


def build(name: str, channels: int, classes: int, params: dict[str, Any]) -> nn.Module:
    """Build one with fresh weights; nothing is downloaded or loaded, whatever a checkpoint's parameters ask for."""
    if loading := sorted(key for key in params if key in LOADING):
        raise UserError(f"timm/{name} is built without loading anything; leave out {', '.join(loading)}.")
    network: nn.Module = _timm().create_model(name, pretrained=False, in_chans=channels, num_classes=classes, **params)
    return network

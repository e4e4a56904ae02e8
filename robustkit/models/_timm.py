"""Any timm classifier by name, without its downloaded weights; needs the extra ``timm``."""

from __future__ import annotations

from typing import Any

from torch import nn

from robustkit.errors import UserError, unknown

LOADING = ("checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")  # these unpickle


def _timm() -> Any:
    try:
        import timm
    except ImportError:
        raise UserError("timm's architectures need the extra: pip install 'robustkit[timm]'.") from None
    return timm


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

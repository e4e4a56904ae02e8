"""Any timm classifier by name, without its downloaded weights; needs the extra ``timm``."""

from __future__ import annotations

from typing import Any

from torch import nn

from robustkit.errors import UserError, unknown


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
    """Build one with fresh weights; nothing is downloaded."""
    network: nn.Module = _timm().create_model(name, pretrained=False, in_chans=channels, num_classes=classes, **params)
    return network

"""Any torchvision classifier by name, without its downloaded weights, with the stem fitted to the channels."""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import nn


@cache
def names() -> tuple[str, ...]:
    """Return the names of torchvision's image classifiers."""
    import torchvision

    return tuple(torchvision.models.list_models(module=torchvision.models))


def build(arch: str, channels: int, classes: int, params: dict[str, Any]) -> nn.Module:
    """Build one with fresh weights; its first convolution is replaced where the images have not three channels."""
    import torchvision

    network: nn.Module = torchvision.models.get_model(arch, weights=None, num_classes=classes, **params)
    if channels != 3:
        name, stem = next((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))
        parent, _, leaf = name.rpartition(".")
        fitted = nn.Conv2d(
            channels, stem.out_channels, stem.kernel_size, stem.stride, stem.padding, stem.dilation,  # type: ignore[arg-type]
            bias=stem.bias is not None,
        )  # fmt: skip
        setattr(network.get_submodule(parent), leaf, fitted)
    return network if arch not in ("googlenet", "inception_v3") else _MainOutput(network)


class _MainOutput(nn.Module):
    """Keep the main logits of a network that also returns auxiliary ones in training mode."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Any) -> Any:
        out = self.network(x)
        return out.logits if hasattr(out, "logits") else out

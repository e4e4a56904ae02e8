"""The versions of everything that may have a part in a number. Never imports torch."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from robustkit.base.version import __version__

# Whose versions may have a part in a number; those of them that are installed are noted.
DISTRIBUTIONS = (
    "torch", "torchvision", "numpy", "scipy", "scikit-learn", "safetensors", "torchattacks", "foolbox", "onnx",
    "onnx2torch", "timm",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Return the versions of robustkit, Python and every distribution that may have a part in a number."""
    found = {"robustkit": __version__, "python": platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found

"""robustkit: how robust is this ensemble of image classifiers, and can that number be believed?

The public API is loaded on first use, so that ``import robustkit`` costs milliseconds and no ``import torch``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from robustkit.base.version import __version__

__all__ = [
    "__version__", "audit", "check", "compare", "evaluate", "load_ensemble", "load_results", "load_runs", "report",
    "self_test", "train",
]  # fmt: skip

_LAZY = {
    "audit": "robustkit.api",
    "check": "robustkit.api",
    "compare": "robustkit.api",
    "evaluate": "robustkit.api",
    "train": "robustkit.api",
    "load_runs": "robustkit.api",
    "report": "robustkit.api",
    "self_test": "robustkit.api",
    "load_results": "robustkit.reports._evaluated",
    "load_ensemble": "robustkit.ensembles.checkpoint",
}
_SUBPACKAGES = {"attacks", "data", "defenses", "models", "metrics", "reports", "reproduce", "search"}

if TYPE_CHECKING:
    from robustkit.api import audit, check, compare, evaluate, load_runs, report, self_test, train
    from robustkit.ensembles.checkpoint import load_ensemble
    from robustkit.reports._evaluated import load_results


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _SUBPACKAGES:
        return importlib.import_module(f"robustkit.{name}")
    raise AttributeError(f"module 'robustkit' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*__all__, *_SUBPACKAGES})

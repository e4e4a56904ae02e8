"""``robustkit audit``. Never imports torch by itself."""

from __future__ import annotations

from robustkit.commands._printed import evaluated
from robustkit.study.config import AuditCommand, AuditConfig


def audit(config: AuditCommand) -> None:
    """Evaluate model files that somebody else made: find out how to run them, attack them, say what was not tested.

    Example: robustkit audit model.th --dataset cifar10 --data-dir D
    """
    evaluated("audit", AuditConfig, config)

"""``robustkit evaluate``. Never imports torch by itself."""

from __future__ import annotations

from robustkit.commands._printed import evaluated
from robustkit.study.config import EvaluateCommand, EvaluateConfig


def evaluate(config: EvaluateCommand) -> None:
    """Attack an ensemble, white-box and member to member, and say whether the numbers can be believed.

    Example: robustkit evaluate --defense adp --attacks pgd,mim
    """
    evaluated("evaluate", EvaluateConfig, config)

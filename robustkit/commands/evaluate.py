"""``robustkit evaluate``. Never imports torch by itself."""

from __future__ import annotations

from robustkit.commands._printed import answer
from robustkit.study.config import EvaluateCommand


def evaluate(config: EvaluateCommand) -> None:
    """Attack an ensemble, white-box and member to member, and say whether the numbers can be believed.

    Example: robustkit evaluate --defense adp --attacks pgd,mim
    """
    from robustkit.pipeline import request

    request.check(config)
    answer(config, config.out, lambda api, reporter: api.evaluate(**config.keywords(), reporter=reporter))

"""``robustkit evaluate``. Never imports torch by itself."""

from __future__ import annotations

from robustkit.commands._printed import answer
from robustkit.gates import running
from robustkit.study.config import EvaluateCommand
from robustkit.study.options_run import GATES


def evaluate(config: EvaluateCommand) -> None:
    """Attack an ensemble, white-box and member to member, and say whether the numbers can be believed.

    Example: robustkit evaluate --defense adp --attacks pgd,mim
    """
    from robustkit.pipeline import request

    request.check(config)
    running.prepare(config)
    keywords = {key: value for key, value in config.keywords().items() if key not in GATES}
    answer(config, config.out, lambda api, reporter: api.evaluate(**keywords, reporter=reporter))

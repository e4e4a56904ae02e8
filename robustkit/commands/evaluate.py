"""``robustkit evaluate``. Never imports torch by itself."""

from __future__ import annotations

from rich.console import Console

from robustkit.base.progress import Reporter
from robustkit.commands.report import written
from robustkit.study.config import EvaluateConfig


def evaluate(config: EvaluateConfig) -> None:
    """Attack an ensemble, white-box and member to member, and say whether the numbers can be believed.

    Example: robustkit evaluate --defense adp --attacks pgd,mim
    """
    from robustkit.pipeline import request

    request.check(config)
    console = Console()
    with console.status("loading torch ..."):
        from robustkit import api
        from robustkit.reports import terminal
    terminal.show(api.evaluate(**config.keywords(), reporter=Reporter(console)), console)
    print(written(config.out, config.formats))

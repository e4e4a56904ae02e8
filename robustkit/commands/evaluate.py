"""``robustkit evaluate``. Never imports torch by itself."""

from __future__ import annotations

from rich.console import Console

from robustkit.base.progress import Reporter
from robustkit.commands.check import settle
from robustkit.commands.report import written
from robustkit.gates import running
from robustkit.study.config import EvaluateConfig
from robustkit.study.options_run import GATES


def evaluate(config: EvaluateConfig) -> None:
    """Attack an ensemble, white-box and member to member, and say whether the numbers can be believed.

    Example: robustkit evaluate --defense adp --attacks pgd,mim
    """
    from robustkit.pipeline import request

    request.check(config)
    running.prepare(config)
    console = Console()
    with console.status("loading torch ..."):
        from robustkit import api
        from robustkit.reports import terminal
    keywords = {key: value for key, value in config.keywords().items() if key not in GATES}
    terminal.show(api.evaluate(**keywords, reporter=Reporter(console)), console)
    settle(config, config.out, written(config.out, config.formats))

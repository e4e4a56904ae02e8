"""``robustkit audit``. Never imports torch by itself."""

from __future__ import annotations

from rich.console import Console

from robustkit.base.names import SUITES
from robustkit.base.progress import Reporter
from robustkit.commands.check import settle
from robustkit.commands.report import written
from robustkit.gates import running
from robustkit.study.config import AuditConfig
from robustkit.study.options_run import GATES


def audit(config: AuditConfig) -> None:
    """Evaluate model files that somebody else made: find out how to run them, attack them, say what was not tested.

    Example: robustkit audit model.th --dataset cifar10 --data-dir D
    """
    from robustkit.pipeline import request

    request.check(config, SUITES)
    running.prepare(config)
    console = Console()
    with console.status("loading torch ..."):
        from robustkit import api
        from robustkit.reports import terminal
    keywords = {key: value for key, value in config.keywords().items() if key not in GATES}
    terminal.show(api.audit(**keywords, reporter=Reporter(console)), console)
    settle(config, config.out, written(config.out, config.formats))

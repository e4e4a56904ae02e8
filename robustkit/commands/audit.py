"""``robustkit audit``. Never imports torch by itself."""

from __future__ import annotations

from rich.console import Console

from robustkit.base.names import SUITES
from robustkit.base.progress import Reporter
from robustkit.commands.report import written
from robustkit.study.config import AuditConfig


def audit(config: AuditConfig) -> None:
    """Evaluate model files that somebody else made: find out how to run them, attack them, say what was not tested.

    Example: robustkit audit model.th --dataset cifar10 --data-dir D
    """
    from robustkit.pipeline import request

    request.check(config, SUITES)
    console = Console()
    with console.status("loading torch ..."):
        from robustkit import api
        from robustkit.reports import terminal
    terminal.show(api.audit(**config.keywords(), reporter=Reporter(console)), console)
    print(written(config.out, config.formats))

"""``robustkit bench``. Never imports torch by itself."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from robustkit.base.errors import UserError
from robustkit.base.progress import Reporter
from robustkit.commands._printed import loading
from robustkit.study.config import BenchConfig


def bench(config: BenchConfig) -> None:
    """Test the verdicts themselves: every planted fault must be caught, and sound models must be trusted.

    Example: robustkit bench --self-test
    """
    keywords = config.keywords()
    if not keywords.pop("self_test", False):
        raise UserError("bench needs --self-test; the benchmarks against other toolkits are scripts in benchmarks/.")
    console = Console()
    reporter = Reporter(console)
    with loading(console, reporter):
        from robustkit import api
        from robustkit.pipeline import selftest
    with reporter.alive("working"):
        outcomes = api.self_test(**keywords, reporter=reporter)
    console.print(selftest.table(outcomes))
    print(f"report: {Path(config.out) / 'self-test.json'}")
    if not all(outcome.right for outcome in outcomes):
        sys.exit(1)

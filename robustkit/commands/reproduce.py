"""``robustkit reproduce``. Never imports torch by itself."""

from __future__ import annotations

from rich.console import Console

from robustkit.base.progress import Reporter
from robustkit.commands._printed import loading
from robustkit.study.config import ReproduceConfig


def reproduce(config: ReproduceConfig) -> None:
    """Repeat a published table or figure: train, evaluate, and show the paper's numbers beside yours.

    Example, without any download: robustkit reproduce adp-table1 --dataset digits --as mnist
    """
    from robustkit.reproduce import _ask

    _ask.check(config)
    console = Console()
    reporter = Reporter(console)
    with loading(console, reporter):
        from robustkit.reproduce import _write, runner
    with reporter.alive("working"):
        done = runner.reproduce(**config.keywords(), reporter=reporter)
    _write.show(done, console)
    print(f"report: {done.ask.out / _write.MARKDOWN}")

"""``robustkit corrupt``. Never imports torch by itself."""

from __future__ import annotations

from rich.console import Console

from robustkit.base.progress import Reporter
from robustkit.commands._printed import loading
from robustkit.study.config import CorruptConfig


def corrupt(config: CorruptConfig) -> None:
    """Write a corrupted copy of a dataset's test images, in the layout of the published sets.

    Example: robustkit corrupt digits digits-c --suite cifar-c
    """
    from robustkit import data
    from robustkit.corruptions._plan import chosen

    chosen(config.suites)
    data.describe(config.dataset)
    console = Console()
    reporter = Reporter(console)
    with loading(console, reporter):
        from robustkit.corruptions._copy import corrupt as run
    with reporter.alive("working"):
        made = run(**config.keywords(), reporter=reporter)
    print(f"{len(made)} corruptions: {config.out}")

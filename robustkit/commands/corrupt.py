"""``robustkit corrupt``. Never imports torch by itself."""

from __future__ import annotations

from rich.console import Console

from robustkit.base.progress import Reporter
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
    with console.status("loading torch ..."):
        from robustkit.corruptions._copy import corrupt as run
    made = run(**config.keywords(), reporter=Reporter(console))
    print(f"{len(made)} corruptions: {config.out}")

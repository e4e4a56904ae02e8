"""``robustkit search``. Never imports torch by itself."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from robustkit.base.progress import Reporter
from robustkit.study.config import SearchConfig


def search(config: SearchConfig) -> None:
    """Search the architectures of an ensemble; `search list` names the methods.

    Example: robustkit search darts-ensemble --members 3 --out found, then robustkit evaluate --checkpoint found
    """
    from robustkit.search import _ask, method

    console = Console()
    if config.method == "list":
        from robustkit.commands.listing import table

        console.print(table("searches", method))
        return
    _ask.check(config)
    with console.status("loading torch ..."):
        from robustkit import api
        from robustkit.search import run
    found = api.search(**config.keywords(), reporter=Reporter(console))
    run.show(found, console)
    print(f"checkpoint: {Path(config.out)}")

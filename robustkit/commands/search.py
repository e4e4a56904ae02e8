"""``robustkit search``. Never imports torch by itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

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
    show(api.search(**config.keywords(), reporter=Reporter(console)), console)
    print(f"page: {Path(config.out) / 'search.html'}")
    print(f"checkpoint: {Path(config.out)}")


def show(record: Mapping[str, Any], console: Console) -> None:
    """Print what a search found: candidates, those that were chosen marked, costs, accuracies."""
    rows = Table("", "candidate", "validation", "architecture", title="candidates, * in the ensemble", box=None)
    for row in record["candidates"]:
        mark = "*" if row["name"] in record["chosen"] else ""
        said = row["facts"].get("architecture", row["arch"])
        rows.add_row(mark, row["name"], f"{row['validation_accuracy']:.4f}", said)
    console.print(rows)
    costs = Table("part", "seconds", "forward passes", "backward passes", title="costs", box=None)
    for name, cost in record["costs"].items():
        costs.add_row(name, f"{cost['seconds']:.1f}", f"{cost['forward']:,}", f"{cost['backward']:,}")
    console.print(costs)
    metrics = record["metrics"]
    console.print(
        f"test accuracy {metrics['test_accuracy']:.4f}, members "
        f"{', '.join(f'{a:.4f}' for a in metrics['test_member_accuracy'])}; best of {record['subsets']} subsets",
        highlight=False,
    )

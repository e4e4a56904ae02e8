"""``robustkit compare``. Never imports torch."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from robustkit.study.config import CompareConfig


def compare(config: CompareConfig) -> None:
    """Put stored evaluations side by side, image by image: differences, intervals, tests, and what else differs.

    Example: robustkit compare runs/baseline runs/adp
    """
    from robustkit.comparison import page
    from robustkit.reports.terminal import show_table

    found, written = page.run(config)
    console = Console()
    for sentence in found.takeaway:
        console.print(Text(sentence))
    console.print()
    for table in found.tables:
        if table.name != "comparisons-attacks":
            show_table(table, console)
    print(f"report: {written[0]}")

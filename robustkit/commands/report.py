"""``robustkit report``. Never imports torch by itself."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from robustkit.base import options
from robustkit.base.types import Names
from robustkit.study.config import ReportConfig

WRITTEN = {"html": "report.html", "figures": "figures", "json": "results.json"}  # by format; of all others: tables


def report(config: ReportConfig) -> None:
    """Render tables, figures and the report again from stored runs; no attack is run.

    Example: robustkit report robustkit-out --format csv
    """
    from robustkit.records.store import open_runs
    from robustkit.reports import report as registry

    options.names(config.formats, registry)
    folder = Path(config.out) if config.out else open_runs(config.path).folder.parent
    from robustkit import api
    from robustkit.reports import terminal

    terminal.show(api.report(**config.keywords()), Console())
    print(written(folder, config.formats))


def written(folder: str | Path, formats: Names) -> str:
    """Return the last line of a command: where the page lies, or what was made instead of one."""
    chosen = options.names(formats) if formats else ("json",)
    first = "html" if "html" in chosen else chosen[0]
    return f"report: {Path(folder) / WRITTEN.get(first, 'tables')}"

"""``robustkit report``. Never imports torch by itself."""

from __future__ import annotations

from pathlib import Path

from robustkit.base import options
from robustkit.commands._printed import answer
from robustkit.study.config import ReportCommand


def report(config: ReportCommand) -> None:
    """Render tables, figures and the report again from stored runs; no attack is run.

    Example: robustkit report robustkit-out --format csv
    """
    from robustkit.records.store import open_runs
    from robustkit.reports import report as registry

    options.names(config.formats, registry)
    folder = Path(config.out) if config.out else open_runs(config.path).folder.parent
    answer(config, folder, lambda api, reporter: api.report(**config.keywords()))

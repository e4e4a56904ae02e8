"""The command line: one command a file in :mod:`robustkit.commands`; here they become one app."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from cyclopts import App, Parameter
from cyclopts.help import DefaultFormatter

from robustkit.base.version import __version__
from robustkit.commands import run
from robustkit.commands.audit import audit
from robustkit.commands.bench import bench
from robustkit.commands.check import check
from robustkit.commands.compare import compare
from robustkit.commands.corrupt import corrupt
from robustkit.commands.evaluate import evaluate
from robustkit.commands.leaderboard import leaderboard
from robustkit.commands.options import columns, command
from robustkit.commands.report import report
from robustkit.commands.reproduce import reproduce
from robustkit.commands.train import train
from robustkit.study.config import (
    AuditConfig,
    BenchConfig,
    CheckConfig,
    CompareConfig,
    CorruptConfig,
    EvaluateConfig,
    LeaderboardConfig,
    ReportConfig,
    ReproduceConfig,
    TrainConfig,
)

app = App(
    name="robustkit",
    help="How robust is this ensemble of image classifiers, and can that number be believed?",
    version=f"robustkit {__version__}",
    help_format="plaintext",
    help_formatter=DefaultFormatter(column_specs=columns),
    suppress_keyboard_interrupt=False,  # __main__ says that the same command resumes
)
COMMANDS: dict[str, tuple[type[Any], Callable[[Any], None]]] = {
    "evaluate": (EvaluateConfig, evaluate),
    "audit": (AuditConfig, audit),
    "train": (TrainConfig, train),
    "corrupt": (CorruptConfig, corrupt),
    "reproduce": (ReproduceConfig, reproduce),
    "report": (ReportConfig, report),
    "check": (CheckConfig, check),
    "compare": (CompareConfig, compare),
    "leaderboard": (LeaderboardConfig, leaderboard),
    "bench": (BenchConfig, bench),
}
for config, function in COMMANDS.values():
    command(app, config)(function)
run.add(app, COMMANDS)


@app.command(name="list")
def list_methods(
    name: Annotated[str | None, Parameter(help="A kind, like attacks, or one entry, like pgd.")] = None, /
) -> None:
    """List what there is; of a kind every entry, of an entry its parameters with their defaults, and its source."""
    from robustkit.commands.listing import show

    show(name)

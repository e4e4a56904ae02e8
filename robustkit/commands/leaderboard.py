"""``robustkit leaderboard``. Never imports torch."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from robustkit.base.budgets import budget
from robustkit.study.config import LeaderboardConfig


def leaderboard(config: LeaderboardConfig) -> None:
    """Rank every stored evaluation and audit below a folder: by verdict, then by worst case.

    Example: robustkit leaderboard runs --eps 8/255
    """
    from robustkit.comparison import leaderboard as ranking
    from robustkit.reports.terminal import show_table

    eps = None if config.eps is None else budget(config.eps, config.norm or "l2")  # whose range is the widest
    found = ranking.leaderboard(config.path, eps, config.norm)
    path = Path(config.out) if config.out else Path(config.path) / "leaderboard.html"
    show_table(ranking.table(found), Console())
    print(f"report: {ranking.write(found, path, marks=config.marks)}")

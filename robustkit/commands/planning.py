"""The plan of a study. Never imports torch by itself."""

from __future__ import annotations


def show(name, cells, asked):
    return not asked.dry_run

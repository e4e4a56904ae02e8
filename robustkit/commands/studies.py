"""What a command does with a study in a file: flags before the file, one run for each cell of a grid.

A command is asked through :func:`run`; which commands may be asked for a plan, and what each refuses before any work,
is stated in :data:`CHECKS`. Never imports torch.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from robustkit.base import options
from robustkit.base.configuration import Configuration
from robustkit.base.errors import GateError, UserError
from robustkit.study import file as studies
from robustkit.study.problems import Check, problems_of

MANY = 10_000  # cells from which on a study begins only when its user has seen how long it takes


@dataclass(frozen=True)
class Asked:
    """What a command line says beside the options of its configuration."""

    config: Path | None = None
    dry_run: bool = False
    yes: bool = False


def _evaluate(config: Any) -> None:
    from robustkit.pipeline import request

    request.check(config)


def _audit(config: Any) -> None:
    from robustkit.base.names import SUITES
    from robustkit.pipeline import request

    request.check(config, SUITES)


def _train(config: Any) -> None:
    from robustkit.pipeline import request

    request.check_training(config)


def _search(config: Any) -> None:
    from robustkit.search import _ask

    if config.method != "list":
        _ask.check(config)


CHECKS: Mapping[str, Check] = {"evaluate": _evaluate, "audit": _audit, "train": _train, "search": _search}
RANKED = ("evaluate", "audit")  # whose grids have a page over all their cells
PLANNED = ("evaluate", "audit", "train")  # whose plan can be shown


def run(
    name: str, config: type[Configuration], function: Callable[[Any], None], given: Mapping[str, Any], asked: Asked
) -> None:
    """Run a command on every cell of what a file and the command line ask for; the command line decides where both do.

    Raises
    ------
    UserError
        If anything of any cell is wrong, before the first begins.
    GateError
        If a requirement is missed in some of them, when all have run.
    """
    runs = configurations(name, config, given, asked.config)
    if name in PLANNED:
        from robustkit.commands import planning

        if not asked.yes and not asked.dry_run:
            planning.confirm(name, runs, MANY)
        if asked.dry_run:
            print("\n".join(planning.plan(name, runs)))
            return
    if len(runs) == 1:
        function(runs[0])
        return
    from robustkit.evaluation.executors._in_common import in_common

    missed = []
    with in_common(runs):
        for at, one in enumerate(runs, 1):
            if not getattr(one, "quiet", False):
                print(f"{at} of {len(runs)}: {getattr(one, 'out', '')}")
            try:
                function(one)
            except GateError as error:
                missed.append(f"{getattr(one, 'out', '')}: {error}")
    if name in RANKED:
        _rank(runs)
    if missed:
        raise GateError(f"requirements missed in {len(missed)} of {len(runs)} runs: {' '.join(missed)}")


def _rank(runs: Sequence[Any]) -> None:
    """Write the page that ranks the evaluations of a grid and leads to each, where their pages are written."""
    from robustkit.comparison import leaderboard

    if "html" not in options.names(runs[0].formats or ("json",)):
        return
    folder = Path(os.path.commonpath([one.out for one in runs]))
    with contextlib.suppress(UserError):  # runs that are done are not to end with what is wrong beside them
        page = leaderboard.write(leaderboard.leaderboard(folder), folder / "leaderboard.html")
        if not runs[0].quiet:
            print(f"all of them: {page}")


def configurations(
    name: str, config: type[Configuration], given: Mapping[str, Any], path: Path | None
) -> list[Configuration]:
    """Return the configuration of every cell of a grid, checked."""
    if path is None:
        return [config(**given)]
    read = studies.read(path, {name: config}, name)
    whole = replace(read, values={**read.values, **given})
    refuse(whole, config, CHECKS.get(name))
    grid = studies.combinations(config, whole.values)
    if len(grid) == 1:
        return [config(**grid[0][0])]
    out = Path(config(**grid[0][0]).out)  # type: ignore[attr-defined]
    folders = studies.folders(grid)
    return [config(**{**values, "out": out / folder}) for (values, _), folder in zip(grid, folders, strict=True)]


def refuse(read: studies.StudyFile, config: type[Configuration], check: Check | None) -> None:
    """Raise a :class:`UserError` that names the first thing wrong with a study, and how many there are."""
    problems = problems_of(read, config, check)
    if problems:
        more = f" ({len(problems) - 1} more: robustkit validate {read.path})" if len(problems) > 1 else ""
        raise UserError(f"{problems[0].at(read.path)}{more}")

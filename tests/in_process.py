"""The command in the process of the tests, which has torch loaded already."""

from __future__ import annotations

import io
import shlex
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import pytest
from cyclopts import App

from robustkit.__main__ import main
from robustkit.cli import COMMANDS
from robustkit.commands.options import command


def invoke(*arguments: object) -> tuple[int, str, str]:
    """Run the command; return exit code, stdout and stderr.

    A process of its own takes seconds to import torch; those tests start one that are about processes.
    """
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["robustkit", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
    return code, out.getvalue(), err.getvalue()


def parsed(line: str) -> Any:
    """Return the configuration that the command would make of a line like ``robustkit evaluate --seed 1``."""
    robustkit, name, *words = shlex.split(line)
    assert robustkit == "robustkit"
    made: list[Any] = []

    def taken(config: Any) -> None:
        made.append(config)

    taken.__name__ = name
    app = App(result_action="return_value")
    command(app, COMMANDS[name][0])(taken)
    app([name, *words], exit_on_error=False, print_error=False)
    return made[0]

"""The command in the process of the tests, which has torch loaded already."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest

from robustkit.__main__ import main


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

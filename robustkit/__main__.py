"""``python -m robustkit`` and the ``robustkit`` command.

Exit codes: 0 done, 2 bad usage or bad input, 1 something failed while running, 130 interrupted.
"""

from __future__ import annotations

import os
import sys

from robustkit.base.errors import RunError, UserError

INTERRUPTED = 130


def main() -> None:
    """Run the command line and turn errors into one sentence and an exit code."""
    from robustkit.cli import app

    try:
        app()
    except UserError as error:
        print(f"robustkit: {error}", file=sys.stderr)
        sys.exit(2)
    except RunError as error:
        print(f"robustkit: {error}", file=sys.stderr)
        sys.exit(1)
    except SystemExit as stop:  # typer turns Ctrl-C into this code
        if stop.code == INTERRUPTED:
            print("robustkit: interrupted; the same command resumes from the last finished cell.", file=sys.stderr)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(INTERRUPTED)  # a plain exit would wait for the threads whose cells are in flight
        raise


if __name__ == "__main__":
    main()

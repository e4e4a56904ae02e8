"""``python -m robustkit`` and the ``robustkit`` command.

Exit codes: 0 done, and what was required holds; 1 it is not so: something failed while running, or a requirement was
missed, and the last line on stderr says which; 2 bad usage or bad input, nothing was done; 130 interrupted.
"""

from __future__ import annotations

import io
import os
import sys

from robustkit.commands import _recall

INTERRUPTED = 130


def main() -> None:
    """Run the command line and turn errors into one sentence and an exit code."""
    words = sys.argv[1:]
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that the screen's encoding lacks is shown, by its numbers
        sys.stdout.reconfigure(errors="backslashreplace")
    if (text := _recall.said_again(words)) is not None:  # looked at first, for all else takes longer to import
        sys.stdout.write(text)
        return
    from cyclopts import CycloptsError

    from robustkit.base.errors import RunError, UserError
    from robustkit.cli import app
    from robustkit.commands.options import sentence

    try:
        with _recall.typed(words):
            app(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        _stop(sentence(error), 2)
    except UserError as error:
        _stop(str(error), 2)
    except RunError as error:
        _stop(str(error), 1)
    except KeyboardInterrupt:
        print("robustkit: interrupted; the same command resumes from the last finished cell.", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)  # a plain exit would wait for the threads whose cells are in flight


def _stop(sentence: str, code: int) -> None:
    print(f"robustkit: {' '.join(sentence.split())}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()

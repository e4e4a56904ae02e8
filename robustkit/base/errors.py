"""The ways in which a command ends badly, and the sentences that go with them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad usage or bad input: one sentence that names the value and what would be accepted (exit code 2)."""


class RunError(RuntimeError):
    """Something failed while running: the store keeps what finished, the same command resumes (exit code 1)."""


class GateError(RunError):
    """What was required of the numbers does not hold; they are stored and reported all the same (exit code 1)."""


def unknown(kind: str, value: str, accepted: Iterable[str], unlisted: Iterable[str] = ()) -> UserError:
    """Make the error for a name that is not one of ``accepted``, with the nearest one as a suggestion.

    ``unlisted`` names are suggested too, but too many to be listed.
    """
    names = sorted(accepted)
    known = {name.lower(): name for name in [*unlisted, *names]}
    near = difflib.get_close_matches(value.lower(), list(known), n=3, cutoff=0.5)
    near.sort(key=lambda name: sorted(name) != sorted(value.lower()))  # two letters swapped before any other slip
    hint = f"did you mean '{known[near[0]]}'? " if near else ""
    return UserError(f"unknown {kind} '{value}': {hint}Known: {', '.join(names)}.")

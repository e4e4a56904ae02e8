"""Attacks that the checks advise, and those that the probes try."""

from __future__ import annotations

from typing import Any

from robustkit.attacks import spec
from robustkit.records.cells import Spec


def stride(steps: int, eps: float) -> float:
    """Return a step that crosses the ball within the steps there are, eps / 10 from 25 on, shorter from 50, to settle.

    Madry et al. 2018 take 2.5 eps / steps: from a random start, steps of eps / 10 need twenty to reach the other side.
    """
    return max(2.5 * eps / steps, eps / max(10, steps // 5))


def stronger(restarts: int = 12) -> Spec:
    """Return what helps most per pass, at any budget: its steps are relative to eps."""
    return spec("quorum", restarts=restarts)


def long_pgd(steps: int, eps: float, **params: Any) -> Spec:
    """Return a PGD that can cross the ball and settle."""
    return spec("pgd", steps=steps, step_size=stride(steps, eps), **params)

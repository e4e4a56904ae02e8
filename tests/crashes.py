"""Which signal ended a worker of pytest-xdist, and one more try where that is no fault of the test.

A test that joins a cluster makes its process a driver of Ray, whose threads of C++ can end it without an exception.
Such a test runs once more; the summary names signal and test, and a second time fails. Every other test fails the first
time.
"""

from __future__ import annotations

import signal
from typing import Any

import pytest

DRIVERS = ("_on_ray.py::", "test_joining_ray.py::", "test_one_connection.py::")  # tests whose process talks to Ray
again: set[str] = set()


def how_it_ended(worker: Any) -> str:
    """Return what ended a worker's process, as far as xdist's gateway lets that be seen."""
    process = getattr(getattr(worker.gateway, "_io", None), "popen", None)
    try:
        status = process.wait(10)
    except Exception:  # none of ours, or it hangs
        return "how it ended is not known"
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit code {status}"


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem: str, report: Any, sched: Any) -> None:
    """Say what ended the worker; let a driver of Ray try once more."""
    report.longrepr = said = f"{report.longrepr}: {how_it_ended(report.node)}"
    if crashitem not in again and any(name in crashitem for name in DRIVERS):
        again.add(crashitem)
        sched.mark_test_pending(crashitem)
        report.outcome, report.longrepr = "skipped", (crashitem.split("::")[0], 0, f"it runs again: {said}")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name what ran again, whatever else is shown."""
    for item in sorted(again):
        terminalreporter.write_line(f"RAN AGAIN, since its process had ended: {item}")

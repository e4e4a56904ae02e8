"""What ended a worker of pytest-xdist, and one more try where a test drives Ray and C++ ended its process.

A test that joins a cluster makes its process a driver of Ray, whose threads of C++ can end it without an exception. Up
to ``MOST`` such tests of a session run once more. Every other end of a process is a failure, as xdist has it: of
another test, the second of a test, by SIGKILL, which is somebody else's doing; and a test that was to run again and
did not is one, too.
"""

from __future__ import annotations

import signal
import subprocess
from typing import Any

import pytest

DRIVERS = ("_on_ray.py::", "test_joining_ray.py::", "test_one_connection.py::")  # tests whose process talks to Ray
BY_ITSELF = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}
MOST = 2
again: dict[str, bool] = {}  # tests that are to run once more, and whether they have


def status_of(worker: Any) -> int | None:
    """Return how a worker's process ended, a signal as a negative number; None where the gateway does not tell."""
    process = getattr(getattr(worker.gateway, "_io", None), "popen", None)
    try:
        return None if process is None else int(process.wait(10))
    except subprocess.TimeoutExpired:
        return None


def told(status: int | None) -> str:
    """Return in words how a process ended."""
    if status is None:
        return "how it ended is not known"
    if status >= 0:
        return f"exit code {status}"
    names = {one.value: one.name for one in signal.Signals}
    return f"signal {names.get(-status, -status)}"


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem: str, report: Any, sched: Any) -> None:
    """Say what ended the worker; let a driver of Ray try once more."""
    status = status_of(report.node)
    report.longrepr = said = f"{report.longrepr}: {told(status)}"
    by_itself = status is not None and (status >= 0 or -status in BY_ITSELF)
    if not by_itself or len(again) >= MOST or crashitem in again or not any(name in crashitem for name in DRIVERS):
        return
    try:
        sched.mark_test_pending(crashitem)
    except NotImplementedError:  # other ways to distribute tests than load and worksteal
        return
    again[crashitem] = False
    report.outcome, report.longrepr = "skipped", (crashitem.split("::")[0], 0, f"it is to run again: {said}")


def pytest_runtest_logreport(report: Any) -> None:
    """Note a test that has run again."""
    if report.nodeid in again and report.when == "teardown":
        again[report.nodeid] = True


def pytest_sessionfinish(session: Any) -> None:
    """Fail where a test was to run again and did not: xdist starts only so many workers."""
    if not all(again.values()) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name what ran again, whatever else is shown."""
    for item, ran in sorted(again.items()):
        terminalreporter.write_line(f"{'RAN AGAIN' if ran else 'DID NOT RUN AGAIN'}, its process had ended: {item}")

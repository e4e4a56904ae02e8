"""Reports: functions of ``results.json``; one file each, found by the registry.

A report is ``function(results, out) -> paths``: it writes files below ``out`` and returns them. No attack is run and no
model is read for it. Tables and figures are made once and written by every format; a suite adds its own in
``_suite_<name>.py``, and pictures of stored images are drawn from the store.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from robustkit.base.registry import Registry
from robustkit.records.schema import Results
from robustkit.reports._once import together

report = Registry("report", "robustkit.reports")
get = report.get


def write(results: Results, out: Path, formats: Sequence[str], **settings: Any) -> list[Path]:
    """Run the named reports below ``out`` (made if need be) and return every file written.

    Parameters
    ----------
    **settings
        Given to those reports that take a keyword of that name: ``marks`` of the LaTeX tables.

    Raises
    ------
    UserError
        For an unknown format, before anything is written.
    """
    functions = [get(name) for name in dict.fromkeys(formats)]
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with together():
        return [path for function in functions for path in function(results, out, **_taken(function, settings))]


def _taken(function: Callable[..., list[Path]], settings: dict[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters
    return {name: value for name, value in settings.items() if name in parameters}

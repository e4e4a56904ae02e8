"""Reports: functions of ``results.json`` and nothing else; one file each, found by the registry.

A report is ``function(results, out) -> paths``: it writes files below ``out`` and returns them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robustkit.base.registry import Registry
from robustkit.records.schema import Results
from robustkit.reports._once import together

report = Registry("report", "robustkit.reports")
get = report.get


def write(results: Results, out: Path, formats: Sequence[str]) -> list[Path]:
    """Run the named reports below ``out`` (made if need be) and return every file written.

    Raises
    ------
    UserError
        For an unknown format, before anything is written.
    """
    functions = [get(name) for name in dict.fromkeys(formats)]
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with together():
        return [path for function in functions for path in function(results, out)]

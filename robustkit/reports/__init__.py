"""Reports: functions of ``results.json`` and nothing else; one file each, found by the registry."""

from __future__ import annotations

from robustkit.registry import Registry

report = Registry("report", "robustkit.reports")
get = report.get

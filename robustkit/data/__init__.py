"""Datasets: one file each, found by the registry."""

from __future__ import annotations

from robustkit.registry import Registry

dataset = Registry("dataset", "robustkit.data")
get = dataset.get

"""The types of ``results.json`` that say how a run came about: its command, its trainings. Never imports torch."""

from __future__ import annotations

from typing import Any, TypedDict


class RunRecord(TypedDict):
    """How the numbers were asked for, and when: times are ISO 8601 in UTC.

    ``configuration`` holds every option with its value, those at their default too; ``...`` stands for what only Python
    can hold. ``started`` is the first start of these cells, ``finished`` the end of the last run that added any, so
    that the time between them includes pauses. ``versions`` are of what is installed and may have a part in a number.
    """

    command: str
    configuration: dict[str, Any]
    started: str
    finished: str | None
    versions: dict[str, str]


class CheckpointFile(TypedDict):
    """The weights of an ensemble: where they lay, and the SHA-256 of the file."""

    path: str
    sha256: str


class TrainingRecord(TypedDict):
    """The whole ``recipe`` of a training (defence, data, epochs, optimiser, ...), and what came of it."""

    recipe: dict[str, Any]
    metrics: dict[str, Any]


class SamplesFile(TypedDict):
    """The table of per-sample outcomes beside ``results.json``: its name, SHA-256 and number of rows."""

    file: str
    sha256: str
    rows: int


class EnsembleOrigin(TypedDict, total=False):
    """What files of earlier versions lack of an ensemble; null where it is not known, as of models of others."""

    fusion: str
    checkpoint: CheckpointFile | None
    training: TrainingRecord | None


class NodeRecord(TypedDict):
    """What one node of a cluster ran of one attack on one ensemble: ``cells`` of them in ``seconds``, at some ``eps``.

    ``node`` is a neutral name, ``host`` the machine's; ``kind`` is ``clean``, ``attack``, ``transfer`` or
    ``corruption``, ``attack`` the name of the attack or corruption, empty of clean images.
    """

    node: str
    host: str
    device_name: str
    ensemble: str
    kind: str
    attack: str
    eps: list[float]
    cells: int
    seconds: float


RunOrigin = TypedDict(
    "RunOrigin", {"$schema": str, "run": RunRecord, "samples": SamplesFile, "nodes": list[NodeRecord]}, total=False
)
RunOrigin.__doc__ = (
    "What files of earlier versions lack: the name of the schema, how they were asked for, the samples; of cells that "
    "were run on a cluster, where."
)

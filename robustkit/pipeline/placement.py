"""Where the cells of a study ran: which node of a cluster, as their records say. Never imports torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from robustkit.records.cells import Cell
from robustkit.records.schema_run import NodeRecord
from robustkit.records.store import Store
from robustkit.study.plan import Study

NODE = ("node", "host")  # what a record's environment says of the place; no number depends on it


def unplaced(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Return an environment without the place."""
    return {name: value for name, value in environment.items() if name not in NODE}


def placed(study: Study, store: Store) -> dict[str, list[NodeRecord]]:
    """Return the field ``nodes`` of ``results.json``; no field where every cell ran in a process like this one."""
    found = nodes(study, store)
    return {"nodes": found} if found else {}


def nodes(study: Study, store: Store) -> list[NodeRecord]:
    """Return what each node ran of the study's ensembles, in the order of nodes; but not what ran in this process."""
    ids = {record.key: record.id for record in (*study.ensembles, *study.surrogates)}
    found: dict[tuple[str, ...], NodeRecord] = {}
    for cell, seconds, environment in _placed(store, study.version):
        if cell.ensemble not in ids:
            continue
        place = str(environment["node"]), str(environment.get("host", ""))
        key = (*place, ids[cell.ensemble], cell.kind, cell.name)
        if key not in found:
            found[key] = NodeRecord(
                node=place[0], host=place[1], device_name=str(environment.get("device_name", "")),
                ensemble=ids[cell.ensemble], kind=cell.kind, attack=cell.name, eps=[], cells=0, seconds=0.0,
            )  # fmt: skip
        one = found[key]
        one["cells"] += 1
        one["seconds"] += seconds
        if cell.eps is not None:
            one["eps"] = sorted({*one["eps"], cell.eps})
    return [found[key] for key in sorted(found, key=lambda key: (len(key[0]), key))]  # node-2 before node-10


def _placed(store: Store, version: str) -> Iterator[tuple[Cell, float, Mapping[str, Any]]]:
    return (one for one in store.places() if "node" in one[2] and one[0].version == version)

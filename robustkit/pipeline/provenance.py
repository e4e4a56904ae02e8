"""How a run came about: the command and all its options, when it began and ended, the versions. Never imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from robustkit.base.errors import UserError
from robustkit.base.versions import versions
from robustkit.pipeline.stored import read_study
from robustkit.records.schema_run import RunRecord
from robustkit.records.store import Store
from robustkit.study.config import EvaluateConfig, Evaluation
from robustkit.study.options_run import without_gates
from robustkit.study.plan import Study


def begun(config: Evaluation, study: Study, before: Mapping[str, Any]) -> Study:
    """Return the study with its run record; the same study keeps the start that its store knows (:func:`record_of`)."""
    config = without_gates(config)  # what is asked of the numbers changes none
    record = RunRecord(
        command=config.command("evaluate" if isinstance(config, EvaluateConfig) else "audit"),
        configuration=config.resolved(),
        started=before.get("started") or _now(),
        finished=None,
        versions=versions(),
    )
    return replace(study, run=record)


def ended(study: Study, store: Store, before: Mapping[str, Any]) -> Study:
    """Return the study with the end of its run; one that found everything in the store keeps the record it had.

    Parameters
    ----------
    before : mapping
        The record that the store had of the same study, empty where it had none.
    """
    if before.get("finished") and not store.saved:
        return replace(study, run=before)
    return replace(study, run={**study.run, "finished": _now()})


def record_of(store: Store, study: Study) -> Mapping[str, Any]:
    """Return the run record that the store has of this study, empty where it has none."""
    before = _stored(store)
    return before.run if before is not None and _question(before) == _question(study) else {}


def _stored(store: Store) -> Study | None:
    try:
        return read_study(store)
    except UserError:
        return None


def _question(study: Study) -> dict[str, Any]:
    """Return what is asked, without when, by whom, where from and what followed."""
    bare = replace(study, run={}, follow_ups=(), command="", given="")
    ensembles = [{"id": record.id, "key": record.key} for record in study.ensembles]
    return {**bare.to_json(), "ensembles": ensembles}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")

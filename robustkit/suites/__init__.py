"""Measurements beside the attacks, their transfer and the corruptions: one file each.

A suite is a class that keeps nothing, with three static methods: ``ask`` turns what the user wants into plain JSON and
refuses what cannot be done, before anything is trained; ``run`` runs what the store lacks; ``results`` makes records of
``results.json`` from the store alone. How these look is in ``robustkit/reports/_suite_<name>.py``. This module never
imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from robustkit.base.registry import Registry

if TYPE_CHECKING:
    from robustkit.base.progress import Reporter
    from robustkit.ensembles.ensemble import Ensemble
    from robustkit.evaluation.cell import RunOptions
    from robustkit.evaluation.execute import Craftings
    from robustkit.records.store import Store
    from robustkit.study.evaluation_data import EvaluationData
    from robustkit.study.plan import Study

suite = Registry("suite", "robustkit.suites")
ORDER = (
    "audit",
    "detection",
    "ood",
    "calibration",
    "diversity",
    "certified",
    "smoothing",
    "pools",
)  # in which they run and are reported


@dataclass(frozen=True)
class SuiteRequest:
    """What the user wants of a suite.

    Attributes
    ----------
    options : mapping
        Options of the command that a suite may read, by name; None where the user said nothing.
    data : EvaluationData
        The samples that are evaluated, and the dataset that they are from.
    """

    options: Mapping[str, Any]
    data: EvaluationData


@dataclass(frozen=True)
class Job:
    """What a suite may use to run what the store lacks; ``ensembles`` are by their record's key.

    ``request`` is what the suite's own ``ask`` returned, ``craftings`` gives what attacks are shown of an ensemble.
    """

    study: Study
    request: Mapping[str, Any]
    ensembles: Mapping[str, Ensemble]
    data: EvaluationData
    store: Store
    run_options: RunOptions
    reporter: Reporter
    craftings: Craftings


class Suite(Protocol):
    """What every class that is registered as a suite offers."""

    @staticmethod
    def ask(request: SuiteRequest) -> Mapping[str, Any]:
        """Return what is asked for as plain JSON; a :class:`UserError` refuses what cannot be done."""

    @staticmethod
    def run(job: Job) -> list[str]:
        """Run what the store lacks; return warnings, each naming its ensemble."""

    @staticmethod
    def results(study: Study, store: Store) -> list[Any]:
        """Return the records of ``results.json``; a :class:`RunError` names what the store lacks."""


def ask_suites(names: Iterable[str], request: SuiteRequest) -> dict[str, Mapping[str, Any]]:
    """Return what each of the named suites that are of this package is asked for, in the order in which they run."""
    chosen = set(names)
    return {name: get(name).ask(request) for name in ORDER if name in chosen}


def get(name: str) -> Suite:
    """Return a suite by name."""
    return cast(Suite, suite.get(name))

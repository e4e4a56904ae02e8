"""What is asked of a search, checked as far as it can be before torch is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robustkit.base import options
from robustkit.base.chances import check_members
from robustkit.base.errors import UserError, unknown
from robustkit.base.registry import Entry
from robustkit.evaluation import executors
from robustkit.search import method
from robustkit.study.config import SearchConfig
from robustkit.training import spec as trainspec


@dataclass(frozen=True)
class Ask:
    """A checked request: the method, its whole configuration, and fields of the training's spec that were asked for."""

    entry: Entry
    params: Mapping[str, Any]
    training: Mapping[str, Any]
    members: int


def check(config: SearchConfig) -> Ask:
    """Check a request; a :class:`UserError` names the first thing that is wrong and what is accepted."""
    executors.check(config.executor)
    entry = method.entry(config.method)
    table = options.assignments(config.settings)
    for name in table:
        if name not in (entry.name, "train"):
            raise unknown("method in --set", name, [entry.name, "train"])
    given = dict(table.get(entry.name, {}))
    if config.search_epochs is not None:
        if "epochs" not in {param.name for param in entry.params}:
            raise UserError(
                f"--search-epochs {config.search_epochs} has no effect on '{entry.name}', which has none; leave it out."
            )
        if "epochs" in given:
            raise UserError(f"--search-epochs and --set {entry.name}.epochs say the same; leave one of the two out.")
        given["epochs"] = config.search_epochs
    members = config.members or trainspec.TrainSpec.members
    check_members(config.fusion, members)
    fields = {**trainspec.settings(table.get("train", {})), "epochs": config.epochs}
    return Ask(entry, options.resolve(entry, given), fields, members)

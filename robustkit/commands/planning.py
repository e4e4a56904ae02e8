"""The plan of a study: what ``--dry-run`` prints, and what a very large one shows before it begins.

Never imports torch by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NoReturn

from rich.console import Console

from robustkit.base import options
from robustkit.base.configuration import Configuration
from robustkit.base.errors import UserError
from robustkit.base.names import SUITES
from robustkit.base.progress import Reporter
from robustkit.pipeline import request
from robustkit.pipeline.plan_of import Plan, Planned, duration, together
from robustkit.study.config import EvaluateConfig, Evaluation
from robustkit.training.spec import TrainSpec

PLANNED = 6  # runs of a grid whose plan is made; each of the others counts as their mean


def plan(name: str, runs: Sequence[Configuration]) -> list[str]:
    """Return the plan of a study, a line each; nothing is run and nothing is written."""
    console = Console()
    with console.status("planning ..."), Reporter(console).alive("planning"):
        plans = [_plan_of(name, one) for one in runs[:PLANNED]]
    if len(runs) == 1:
        return plans[0].lines()
    lines = [line for one in plans for line in one.lines()[:2]]
    if len(runs) > len(plans):
        lines.append(f"... and {len(runs) - len(plans)} more like these")
    whole = together(plans)
    times = len(runs) / len(plans)
    scaled = replace(
        whole, what=f"{len(runs)} runs", cells=round(whole.cells * times), stored=round(whole.stored * times),
        trainings=round(whole.trainings * times), cached=round(whole.cached * times), forwards=whole.forwards * times,
        backwards=whole.backwards * times, seconds={stage: took * times for stage, took in whole.seconds.items()},
    )  # fmt: skip
    return [*lines, *scaled.lines()]


def confirm(name: str, runs: Sequence[Configuration], many: int) -> None:
    """Raise a :class:`UserError` that says how long a study of very many cells takes; ``--yes`` leaves this out."""
    counts = [cells_of(one) for one in runs]
    if sum(counts) < many:
        return
    first, console = _few(runs[0]), Console()
    with console.status("planning ..."), Reporter(console).alive("planning"):
        seconds = _plan_of(name, first).total * sum(counts) / max(1, cells_of(first))
    # Cause: a grid grows with the product of what it is over.
    raise UserError(
        f"this study has {sum(counts)} cells and takes about {duration(seconds)}; add --yes to begin, or name fewer "
        "seeds, attacks or eps."
    )


def _few(config: Configuration) -> Configuration:
    """Return what is asked for with two seeds at most: the trials of a thousand would take minutes."""
    seeds = getattr(config, "seeds", None)
    several = () if seeds is None else options.seeds(seeds)
    return replace(config, seeds=several[:2]) if len(several) > 2 else config  # type: ignore[call-arg]


def cells_of(config: Configuration) -> int:
    """Return how many cells an evaluation has, about: without reading its data or its models; 0 of what is none."""
    if not isinstance(config, Evaluation):
        return 0
    try:
        asked = request.check(config, SUITES) if not isinstance(config, EvaluateConfig) else request.check(config)
    except UserError:  # which the command itself says
        return 0
    trained = isinstance(config, EvaluateConfig) and asked.defenses
    models = len(request.beside_baseline(asked.defenses)) if trained else 1
    seeds = getattr(config, "seeds", None)
    models *= 1 if seeds is None else len(options.seeds(seeds))
    members = getattr(config, "members", None) or TrainSpec.members
    attacks = sum(len(spec.params.get("eps", asked.eps)) for spec in asked.attacks) if "attacks" in asked.suites else 0
    transfers = 2 * (members + 1) * len(asked.attacks) if "transfer" in asked.suites else 0
    return models * (1 + attacks + (len(asked.eps) if config.reference and attacks else 0) + transfers)


def _plan_of(name: str, config: Configuration) -> Plan:
    from robustkit import api

    function: Callable[..., Any] | None = getattr(api, name, None)
    if function is None:
        raise UserError(f"{name} has no plan to show; leave out --dry-run.")
    try:
        function(**config.keywords(), reporter=Reporter(planned=_stop))
    except Planned as found:
        return found.plan
    raise UserError(f"{name} has no plan to show; leave out --dry-run.")


def _stop(plan: Any) -> NoReturn:
    raise Planned(plan)

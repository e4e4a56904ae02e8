"""What a run is about to do, said before it begins: the models as they are or will be, the plan, the time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from robustkit.base.progress import Reporter
from robustkit.functional.sending import moved
from robustkit.pipeline import models_under_test
from robustkit.pipeline.estimate import Forecast, Question, forecast, is_short
from robustkit.pipeline.models_under_test import ModelUnderTest
from robustkit.pipeline.request import Request
from robustkit.pipeline.trainings import training_jobs
from robustkit.records.store import Store
from robustkit.study.config import EvaluateConfig, Evaluation
from robustkit.study.plan import Study


def announce(
    config: Evaluation, c: Any, study_of: Callable[[list[ModelUnderTest]], Study], reporter: Reporter
) -> Forecast | None:
    """Say what a run will do and how long it takes, where somebody listens; or give the plan to who asked for it.

    Parameters
    ----------
    c : _Checked
        What is known of the evaluation before any work.
    study_of : callable
        From models, of which some may not be trained yet, to the study of them.
    """
    if reporter.console is None and reporter.planned is None:
        return None
    models, untrained, jobs = [*c.sources.outside.models], [], []
    if isinstance(config, EvaluateConfig):
        models += [
            models_under_test.from_checkpoint(path, meta, config.arch, config.fusion, c.data.dataset)
            for path, meta in zip(c.sources.folders, c.sources.metas, strict=True)
        ]
        wanted = training_jobs(c.sources.trainings, c.data, recipe_of(config, c.request), config.speed)
        for job in wanted:
            kept = models_under_test.cached(job[0])
            models.append(kept or models_under_test.untrained(job[0], c.data.dataset))
            untrained += [] if kept else [models[-1][0].key]
            jobs += [] if kept else [job]
    device = c.run_options.device
    named = [
        (replace(record, id=id, group=group, seed=seed), moved(ensemble, device).eval())
        for id, (group, seed), (record, ensemble) in zip(c.sources.ids, c.sources.groups, models, strict=True)
    ]
    question = Question(
        replace(study_of(named), suite_requests=c.suite_requests),
        {record.key: ensemble for record, ensemble in named}, frozenset(untrained), jobs,
        len(c.sources.trainings) - len(jobs), c.data.dataset, c.data.split, Store(c.folder / "runs"), c.run_options,
        config.escalate_budget if config.escalate else 0.0,
    )  # fmt: skip
    if reporter.planned is None and is_short(question):
        return None
    found = forecast(question)
    if reporter.planned is not None:
        spent = {"finding out how to run it": c.sources.outside.spent}
        reporter.planned(replace(found.plan, seconds={**spent, **found.plan.seconds}))
    if found.plan.stored < found.plan.cells:
        reporter.say(f"[dim]{found.plan.sentence()}[/dim]")
    return found


def recipe_of(config: EvaluateConfig, request: Request) -> dict[str, Any]:
    """Return the fields of a training's recipe that were asked for."""
    return {**request.training, **{name: getattr(config, name) for name in ("arch", "members", "epochs", "fusion")}}

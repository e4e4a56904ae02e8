"""Several ways to run a model of which clean images refute none: all are attacked, and the weakest is evaluated."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from robustkit.auditing.adapting import Preprocessing
from robustkit.auditing.detecting import Detected
from robustkit.auditing.trials import Trial
from robustkit.base import options
from robustkit.base.configuration import options_of
from robustkit.base.progress import Reporter
from robustkit.pipeline import evaluate as pipeline
from robustkit.pipeline.models_under_test import ModelUnderTest, Surrogate
from robustkit.pipeline.request import check
from robustkit.pipeline.results import build
from robustkit.pipeline.sources import OutsideModels
from robustkit.pipeline.stored import read_study
from robustkit.records.store import Store
from robustkit.reports._checks import headline_budget
from robustkit.reports._labels import budget, budget_text
from robustkit.study.config import AuditConfig
from robustkit.study.options_run import without_gates

FOLDER = "candidates"  # in the audit's: the runs of all of them
SUITE = ("attacks",)
MOST = 16  # combinations of the members' candidates that are attacked
AS = " as "  # between the model and the way that it is run in


def choices_of(found: Sequence[Detected]) -> list[tuple[str, list[Trial]]]:
    """Return the ways to run the members together, by name; none where there is one only.

    All combinations, unless they are too many: then those in which all members that have a candidate of the same name
    are run so, and the others in their likeliest way.
    """
    number = math.prod(len(one.candidates) for one in found)
    if number <= MOST:
        combined = [list(trials) for trials in itertools.product(*(one.candidates for one in found))]
        several = [at for at, one in enumerate(found) if len(one.candidates) > 1]
        named = [("+".join(trials[at].label for at in several), trials) for trials in combined]
        return named if number > 1 else []
    labels = dict.fromkeys(trial.label for one in found if len(one.candidates) > 1 for trial in one.candidates)
    return [
        (name, [next((t for t in one.candidates if t.label == name), one.candidates[0]) for one in found])
        for name in labels
    ]


def hows_of(found: Sequence[Detected], trials: Sequence[Trial]) -> list[Preprocessing]:
    """Return the preprocessing of each member under a trial of it, with the kind and order of outputs that were found.

    What comes out does not depend on what goes in.
    """
    return [
        replace(trial.how, outputs=one.how.outputs, columns=one.how.columns)
        for one, trial in zip(found, trials, strict=True)
    ]


def weigh(
    config: AuditConfig, suites: Sequence[str], models: Sequence[ModelUnderTest], surrogates: Sequence[Surrogate],
    reporter: Reporter,
) -> tuple[int, str]:  # fmt: skip
    """Attack every model at the headline budget; return which has the lowest worst case there, and a sentence on all.

    The attacks are those that the audit asks for, on the same images; what they did is kept beside the audit's runs.
    ``suites`` are those that the audit runs.
    """
    reporter.say(f"{len(models)} ways to run it are left: all are attacked, and the lowest worst case is quoted")
    done = pipeline.evaluate(_alone(config, suites), OutsideModels(models, [], surrogates), SUITE)
    store = Store(done.folder / "runs")
    results = build(read_study(store), store)
    at = headline_budget(results)
    worst = {w["ensemble"]: w["robust_accuracy"] for w in results["worst_case"] if budget(w) == at}
    values = [worst[record.id] for record, _ in models]
    said = ", ".join(
        f"{record.id.rpartition(AS)[2]} {value:.3f}" for (record, _), value in zip(models, values, strict=True)
    )
    where = f" at eps {budget_text(*at)}" if at else ""
    return min(range(len(values)), key=values.__getitem__), f"worst cases{where}: {said}; the lowest is quoted"


def _alone(config: AuditConfig, suites: Sequence[str]) -> AuditConfig:
    """Return the configuration of the attacks alone, at the budget that the report of the whole audit quotes.

    That is the largest, or the one that transfer is measured at, where no attack names its own
    (:func:`robustkit.reports._checks.headline_budget`).
    """
    defaults = {field.name: field.default for field in options_of(type(config))}
    served = {field.name for field in options_of(type(config)) if "attacks" not in (field.option.suites or SUITE)}
    left_out = {*served, "trust", "escalate", "escalate_budget"}
    table = options.assignments(config.settings)
    settings = {f"{name}.{key}": v for name, params in table.items() if name != "train" for key, v in params.items()}
    bare = replace(
        without_gates(config), **{name: defaults[name] for name in left_out}, suites=SUITE, settings=settings or None,
        out=Path(config.out) / FOLDER, keep_examples=False,
    )  # fmt: skip
    request = check(bare, SUITE)
    usual = request.dataset.threat.transfer_eps
    at = usual if "transfer" in suites and config.eps is None and usual in request.eps else max(request.eps)
    return replace(bare, trust="off", eps=[at])

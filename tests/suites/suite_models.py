"""What the tests of the suites share: linear ensembles of digits, a study, and carrying it out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from robustkit import data, suites
from robustkit.base.progress import Reporter
from robustkit.data import Dataset, Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.evaluation.cell import RunOptions, run_cell
from robustkit.evaluation.execute import Craftings
from robustkit.records.cells import DatasetRecord, EnsembleRecord
from robustkit.records.store import Store
from robustkit.study.evaluation_data import EvaluationData
from robustkit.study.plan import Study
from robustkit.suites import Job, SuiteRequest

CPU = RunOptions(torch.device("cpu"), workers=1)


def linear(digits: Dataset, members: int = 3) -> Ensemble:
    """Linear classifiers of digits, each fitted to its own part by ridge regression."""
    train = digits.split("train")
    x, y = train.tensor().flatten(1).double(), torch.nn.functional.one_hot(train.y, 10).double()
    made = []
    for part in range(members):
        own, goal = x[part::members], y[part::members]
        weight = torch.linalg.solve(own.T @ own + torch.eye(64), own.T @ (goal - 0.1))
        layer = torch.nn.Linear(64, 10)
        layer.weight.data, layer.bias.data = 10 * weight.T.float(), torch.zeros(10)
        made.append(torch.nn.Sequential(torch.nn.Flatten(), layer))
    return Ensemble(made, fusion="mean-prob").eval()


def data_of(digits: Dataset, split: Split, *, held_out: bool = True) -> EvaluationData:
    """Return a split of the digits as what an evaluation is about."""
    return EvaluationData(digits, split, "test", data.load, held_out)


def job_of(
    study: Study,
    suite: str,
    ensembles: dict[str, Ensemble],
    data: EvaluationData,
    store: Store,
    run_options: RunOptions = CPU,
) -> Job:
    """Return what a suite is given to run."""
    craftings = Craftings(study, ensembles, data.split, run_options, Reporter())
    return Job(study, study.suite_requests[suite], ensembles, data, store, run_options, Reporter(), craftings)


def asked(suite: str, digits: Dataset, split: Split, **more: Any) -> dict[str, Any]:
    """Return what a suite is asked for."""
    data = data_of(digits, split, held_out=more.pop("held_out", True))
    return dict(suites.get(suite).ask(SuiteRequest({"ood": None, **more}, data)))


def carried_out(
    suite: str, facts: dict[str, Any], digits: Dataset, split: Split, ensemble: Ensemble, folder: Path
) -> tuple[Study, Store, list[str]]:
    """Run a suite; return the study, the store and the warnings."""
    record = EnsembleRecord("adp", "key", "adp", {}, ("linear",), len(ensemble), "mean-prob", "ab" * 32)
    study = Study(
        ensembles=(record,),
        dataset=DatasetRecord("digits", "test", len(split), tuple("0123456789"), split.sha256(), split.shape),
        attacks=(), eps=(0.1,), norm="linf", transfer_eps=0.1, suites=(suite,), version="1",
        suite_requests={suite: facts},
    )  # fmt: skip
    store = Store(folder)
    store.save(run_cell(study.clean(record), ensemble, split, None, CPU))
    job = job_of(study, suite, {"key": ensemble}, data_of(digits, split), store)
    return study, store, suites.get(suite).run(job)

"""What is said before attacks run that see little of the model in question."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from robustkit import data
from robustkit.attacks import spec
from robustkit.base.progress import Reporter
from robustkit.ensembles.ensemble import Ensemble
from robustkit.evaluation.cell import RunOptions
from robustkit.pipeline.run import notes, of_single, run_evaluation
from robustkit.records.cells import DatasetRecord, EnsembleRecord
from robustkit.records.store import Store
from robustkit.study.plan import Study

RECORD = EnsembleRecord("adp", "key", "adp", {}, ("lenet",), 3, "mean-prob", "ab" * 32)
STUDY = Study(
    ensembles=(RECORD, replace(RECORD, id="votes", key="other", fusion="majority")),
    dataset=DatasetRecord("digits", "test", 8, tuple("0123456789"), "dd", shape=(1, 8, 8)), attacks=(), eps=(0.1,),
    norm="linf", transfer_eps=0.1, suites=("attacks",), reference=False, trust="off",
)  # fmt: skip
BLIND = "the DLR ratio is nearly blind on a mean probability (adp); add quorum to --attacks (docs/evaluate.md)."


@pytest.mark.parametrize(
    ("attacks", "named"),
    [
        ((spec("autoattack"),), "autoattack"),
        ((spec("pgd"), spec("apgd-dlr"), spec("apgd-dlr", steps=7)), "apgd-dlr"),
        ((spec("pgd", loss="dlr"), spec("autoattack")), "pgd, autoattack"),
        ((spec("pgd"), spec("apgd-ce"), spec("square")), ""),
        ((spec("autoattack"), spec("quorum")), ""),
        ((spec("apgd-dlr"), spec("mora")), ""),
    ],
)
def test_the_dlr_ratio_is_not_trusted_with_a_mean_probability_alone(attacks: tuple, named: str):
    study = replace(STUDY, attacks=attacks)
    assert notes(study) == ([f"{named}: {BLIND}"] if named else [])
    beside = BLIND.replace("add quorum to --attacks", "quorum, the reference, is not")
    assert notes(replace(study, reference=True)) == ([f"{named}: {beside}"] if named else [])
    assert notes(replace(study, ensembles=STUDY.ensembles[1:])) == []
    assert notes(replace(study, ensembles=(replace(RECORD, members=1),))) == []
    assert notes(replace(study, suites=("transfer",))) == []


def test_mora_says_what_it_is_of_one_member():
    study = replace(STUDY, attacks=(spec("mora"),), ensembles=(RECORD, replace(RECORD, id="alone", members=1)))
    assert of_single(study) == [
        "mora: where there is one member (alone), it reweighs nothing, and ascends the cross-entropy, as pgd does."
    ]
    others = ({"attacks": (spec("pgd"),)}, {"ensembles": (RECORD,)}, {"suites": ("transfer",)})
    assert all(of_single(replace(study, **other)) == [] for other in others)


def test_who_watches_reads_it_once(trained: Ensemble, digits: data.Dataset, tmp_path: Path):
    said: list[str] = []
    reporter = Reporter()
    reporter.say = said.append  # type: ignore[method-assign]
    study = replace(STUDY, ensembles=(RECORD,), attacks=(spec("apgd-dlr", steps=2),))
    options = RunOptions(torch.device("cpu"), batch_size=8, speed="off")
    run_evaluation(study, {"key": trained}, digits.split("test").take(8), Store(tmp_path), options, reporter)
    assert said == [f"[dim]apgd-dlr: {BLIND}[/dim]"]

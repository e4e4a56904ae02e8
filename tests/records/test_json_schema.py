"""The shipped schema is that of the records, real results of every kind keep to it, and broken ones do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from filelock import FileLock

import robustkit
from robustkit.ensembles.checkpoint import load_ensemble
from robustkit.records import json_schema
from robustkit.records.schema import Results

NET = f"{Path(__file__).parents[1] / 'networks.py'}:perceptron"
SUITES = ("attacks", "transfer", "corruptions", "detection", "ood", "calibration", "diversity")
QUICK: dict[str, Any] = {"n": 16, "attacks": ["pgd"], "eps": [0.1], "settings": {"pgd.steps": 2}, "formats": ()}


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(json_schema.FILE.read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.fixture(scope="module")
def checkpoints(shared_folder: Path) -> list[Path]:
    """Two small ensembles of two perceptrons, trained once for all workers."""
    found = [shared_folder / "schema" / f"seed-{seed}" for seed in (0, 1)]
    with FileLock(shared_folder / "schema.lock"):
        for seed, folder in enumerate(found):
            if not folder.is_dir():
                robustkit.train(defense="baseline", arch=NET, members=2, epochs=3, seed=seed, speed="off", out=folder)
    return found


@pytest.fixture(scope="module")
def evaluated(checkpoints: list[Path], shared_folder: Path) -> Path:
    """Every suite on both of them."""
    out = shared_folder / "schema" / "out"
    with FileLock(shared_folder / "schema-out.lock"):
        if not (out / "results.json").is_file():
            robustkit.evaluate(
                checkpoint=checkpoints, arch=NET, suites=SUITES, corruptions="design-diversity", out=out,
                **QUICK,
            )  # fmt: skip
    return out


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text("utf-8"))


def test_the_shipped_file_is_current():
    assert json_schema.FILE.read_text("utf-8") == json_schema.text()


def test_an_evaluation_of_every_suite_keeps_to_it(evaluated: Path, validator: jsonschema.Draft202012Validator):
    found = read(evaluated)
    validator.validate(found)
    assert found["$schema"] == validator.schema["$id"] == json_schema.NAME
    empty = {key for key, value in found.items() if value == []}
    assert empty <= {"surrogates", "minimum_norm", "audit", "pools", "escalation", "comparisons_over_seeds"}


def test_an_audit_keeps_to_it(checkpoints: list[Path], tmp_path: Path, validator: jsonschema.Draft202012Validator):
    ensemble = load_ensemble(checkpoints[0], arch=NET)
    models = [torch.nn.Sequential(member) for member in ensemble.members]
    robustkit.audit(
        models, "digits", out=tmp_path, suites=("attacks",), force=True, **{**QUICK, "attacks": ["pgd", "deepfool"]}
    )
    found = read(tmp_path)
    validator.validate(found)
    assert found["audit"]
    assert found["minimum_norm"]


def test_a_pool_keeps_to_it(checkpoints: list[Path], tmp_path: Path, validator: jsonschema.Draft202012Validator):
    robustkit.evaluate(pool=checkpoints, subset_size=2, arch=NET, n=16, out=tmp_path, formats=())
    found = read(tmp_path)
    validator.validate(found)
    assert found["pools"]


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": 2}, {"seed": "0"}, {"more": 1}, {"worst_case": {}}, {"dataset": {"name": "digits"}},
        {"run": {"command": "robustkit evaluate"}},
    ],
)  # fmt: skip
def test_what_does_not_keep_to_it_is_refused(
    evaluated: Path, validator: jsonschema.Draft202012Validator, change: dict[str, Any]
):
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({**read(evaluated), **change})
    lacking = read(evaluated)
    del lacking["worst_case"][0]["verdict"]
    with pytest.raises(jsonschema.ValidationError, match="'verdict' is a required property"):
        validator.validate(lacking)


def test_results_made_by_hand_keep_to_it(validator: jsonschema.Draft202012Validator):
    """What an earlier version wrote lacks the run record, and is no less valid."""
    old = Path(__file__).parents[1] / "pipeline" / "store_of_0_1_0" / "out" / "results.json"
    found = json.loads(old.read_text("utf-8"))
    assert "run" not in found
    validator.validate(found)


def test_a_type_without_a_schema_is_no_silent_hole():
    with pytest.raises(TypeError, match="no JSON Schema is known for"):
        json_schema._schema(set[int], {})
    assert set(Results.__annotations__) <= set(json_schema.results_schema()["properties"])


def test_the_table_has_the_numbers_of_every_suite(evaluated: Path):
    frame = robustkit.load_results(evaluated).to_frame()
    assert {"clean", "attacks", "worst_case", "optimality", *SUITES} == set(frame.suite)
    assert frame.value.dropna().between(-1e9, 1e9).all()
    levels = frame[(frame.suite == "corruptions") & frame.severity.notna()]
    assert len(levels) == 2 * 4  # two ensembles, four corruptions at one severity

"""results.json is written whole or not at all, and read with clear errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from robustkit.base.errors import UserError
from robustkit.records.schema import Results
from robustkit.reports import write
from robustkit.reports.json_file import load_results


def test_round_trip(results: Results, tmp_path: Path) -> None:
    (path,) = write(results, tmp_path, ["json"])
    assert path == tmp_path / "results.json"
    assert load_results(path) == results
    assert load_results(tmp_path) == results  # the folder will do
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


def test_empty_round_trip(empty: Results, tmp_path: Path) -> None:
    write(empty, tmp_path, ["json"])
    assert load_results(tmp_path) == empty


def test_what_need_not_be_there(results: Results, tmp_path: Path) -> None:
    results["dataset"]["image_size"] = "256:224"
    write(results, tmp_path, ["json", "html"])
    assert load_results(tmp_path) == results
    assert "256:224" in (tmp_path / "report.html").read_text("utf-8")


def test_nan_leaves_the_old_file(results: Results, tmp_path: Path) -> None:
    write(results, tmp_path, ["json"])
    before = (tmp_path / "results.json").read_bytes()
    results["evaluations"][0]["robust_accuracy"] = float("nan")
    with pytest.raises(ValueError, match="JSON compliant"):
        write(results, tmp_path, ["json"])
    assert (tmp_path / "results.json").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


def change(results: Results, **changes: Any) -> str:
    return json.dumps({**results, **changes})


def test_bad_files(results: Results, tmp_path: Path) -> None:
    path = tmp_path / "r.json"

    def refused(text: str, match: str) -> None:
        path.write_text(text)
        with pytest.raises(UserError, match=match):
            load_results(path)

    refused("{", "not a results.json")
    refused("[]", "no schema_version")
    refused("{}", "no schema_version")
    refused(change(results, schema_version=2), "schema_version 2; this robustkit reads up to 1")
    refused(change(results, ensembles={}), "ensembles is not a list")
    refused(change(results, transfer=[{}]), r"transfer\[0\].ensemble is missing")
    refused(
        change(results, evaluations=[{**results["evaluations"][0], "eps": "8"}]),
        r"evaluations\[0\].eps is not a number",
    )
    refused('{"schema_version": 1, "seed": NaN}', "NaN")
    short = {key: value for key, value in results.items() if key != "worst_case"}
    refused(json.dumps(short), "worst_case is missing")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read '.*nothing.json' \(No such file"):
        load_results(tmp_path / "nothing.json")
    with pytest.raises(UserError, match="results.json"):
        load_results(tmp_path)

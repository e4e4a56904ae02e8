"""samples.csv: eight samples by hand, and what it says agrees with results.json."""

from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path

import numpy as np

from robustkit.records.outcomes import SampleOutcomes
from robustkit.records.schema import Results
from robustkit.reports._samples import samples_csv, write_samples

RIGHT = np.array([1.0, 1, 1, 1, 1, 1, 1, 0])  # of eight clean samples the last is wrong from the start


def by_hand(results: Results) -> list[SampleOutcomes]:
    """Two attacks at two eps on one ensemble; pgd from two starts at the larger."""
    first = results["evaluations"][0]
    rows = [("pgd", 0.1), ("pgd", 0.2), ("mim", 0.1), ("mim", 0.2), ("pgd", 0.2)]
    results["evaluations"] = [
        {**first, "ensemble": "adp", "attack": name, "params": {"steps": 10}, "eps": eps, "norm": "linf"}
        for name, eps in rows
    ]
    results["transfer"] = []
    attacked = [
        np.array([1.0, 1, 1, 1, 1, 1, 0, 0]), np.array([1.0, 1, 0, 0, 1, 0.25, 0, 0]),
        np.array([1.0, 1, 1, 1, 1, 1, 0, 0]), np.array([1.0, 1, 1, 0, 0, 0.5, 0, 0]),
        np.array([1.0, 0, 0, 0, 1, 1, 0, 0]),
    ]  # fmt: skip
    ids, labels = np.arange(10, 18), np.arange(8)
    return [SampleOutcomes("adp", ids, labels, np.where(RIGHT > 0, labels, 0), RIGHT, attacked)]


def test_eight_samples_by_hand(results: Results) -> None:
    rows = list(csv.DictReader(io.StringIO(samples_csv(results, by_hand(results)))))
    assert list(rows[0]) == [
        "ensemble", "id", "label", "clean_prediction", "clean_broken", "smallest_eps_linf", "broken_by_linf",
        "broken pgd-10 @ 0.1", "broken pgd-10 @ 0.2", "broken mim-10 @ 0.1", "broken mim-10 @ 0.2",
        "broken pgd-10 @ 0.2 (2)",
    ]  # fmt: skip
    assert [(row["id"], row["label"], row["clean_prediction"]) for row in rows[6:]] == [
        ("16", "6", "6"),
        ("17", "7", "0"),
    ]
    # Never; from other starts; by the first of two; by mim alone; never for sure; at once; without an attack.
    assert [(row["smallest_eps_linf"], row["broken_by_linf"]) for row in rows] == [
        ("", ""), ("0.2", "pgd-10"), ("0.2", "pgd-10"), ("0.2", "pgd-10"), ("0.2", "mim-10"), ("", ""),
        ("0.1", "pgd-10"), ("0", "clean"),
    ]  # fmt: skip
    assert [row["broken pgd-10 @ 0.2"] for row in rows] == ["0", "0", "1", "1", "0", "0.75", "1", "1"]


def test_ensembles_that_met_other_attacks_leave_cells_empty(results: Results) -> None:
    outcomes = by_hand(results)
    results["evaluations"].append({**results["evaluations"][0], "ensemble": "baseline", "eps": 0.3})
    outcomes.append(SampleOutcomes("baseline", np.arange(8), np.arange(8), np.arange(8), RIGHT, [RIGHT]))
    rows = list(csv.DictReader(io.StringIO(samples_csv(results, outcomes))))
    assert len(rows) == 16
    assert rows[0]["broken pgd-10 @ 0.3"] == ""
    assert (rows[8]["broken pgd-10 @ 0.3"], rows[15]["broken pgd-10 @ 0.3"], rows[8]["broken mim-10 @ 0.1"]) == (
        "0",
        "1",
        "",
    )


def test_what_the_results_say_of_the_file_is_so(results: Results, tmp_path: Path) -> None:
    said = write_samples(results, by_hand(results), tmp_path)
    assert said["rows"] == 8
    assert said["sha256"] == hashlib.sha256((tmp_path / said["file"]).read_bytes()).hexdigest()


def test_without_attacks_the_clean_columns_are_there(empty: Results) -> None:
    outcomes = [SampleOutcomes("adp", np.arange(2), np.arange(2), np.arange(2), np.array([1.0, 0.0]), [])]
    assert samples_csv(empty, outcomes) == (
        "ensemble,id,label,clean_prediction,clean_broken\nadp,0,0,0,0\nadp,1,1,1,1\n"
    )

"""One row for each ensemble with a number of each suite."""

from __future__ import annotations

from typing import Any, cast

import pytest

from robustkit.records.schema import Results
from robustkit.reports._overview import overview


def with_suites(results: Results) -> Results:
    of: dict[str, list[Any]] = {"detection": [], "ood": [], "calibration": [], "corruptions": []}
    for at, e in enumerate(results["ensembles"]):
        e["training"] = {"recipe": {}, "metrics": {"seconds": 30.0 + at}}
        for score, labels, adaptive, auroc in (
            ("msp", "predicted", False, 0.8), ("msp", "predicted", False, 0.7), ("msp", "true", False, 0.1),
            ("msp", "predicted", True, 0.2), ("energy", "predicted", False, 0.3),
        ):  # fmt: skip
            row = {
                "ensemble": e["id"],
                "score": score,
                "labels": labels,
                "adaptive": adaptive,
                "auroc": auroc + at / 10,
            }
            of["detection"].append(row)
        means = [{"distance": d, "score": s, "auroc": v} for d, s, v in
                 (("near", "msp", 0.9), ("near", "energy", 0.4), ("far", "msp", 0.95))]  # fmt: skip
        of["ood"].append({"ensemble": e["id"], "means": means})
        of["calibration"].append({"ensemble": e["id"], "output": "member-0", "before": {"ece": 0.5}})
        of["calibration"].append({"ensemble": e["id"], "output": "ensemble", "before": {"ece": 0.031}})
        of["corruptions"].append({"ensemble": e["id"], "suite": "imagenet-c", "accuracy": 0.66})
    return cast(Results, {**results, **of})


def test_every_suite_has_its_number(results: Results):
    (table,) = overview(with_suites(results))
    assert table.columns == [
        "ensemble", "clean", "worst at 4/255", "worst at 8/255", "worst at 0.05", "misled, pgd-10 at 8/255",
        "detection", "near OOD", "far OOD", "ECE", "imagenet-c corruptions", "training, s",
    ]  # fmt: skip
    rows = {str(row[0]): row[1:] for row in table.rows}
    assert list(rows) == ["baseline", "adp"]
    # Off the diagonal of the members' rows is 0.31 + 0.1 row + 0.173, so that 0.417 - mean(0, .1, .2) are misled.
    assert [cell.text for cell in rows["adp"]] == [
        "99.2", "51.3", "8.7", "0.7", "41.7", "70.0", "90.0", "95.0", "3.1", "66.0", "30"
    ]  # fmt: skip
    assert [cell.verdict for cell in rows["adp"]][1:4] == ["trusted", "suspect", "trusted"]
    assert rows["baseline"][4].text == "70.7"
    assert rows["baseline"][5].text == "80.0"


def test_it_is_there_where_there_is_something_to_compare(results: Results):
    assert not list(overview(results))
    whole = with_suites(results)
    assert not list(overview(cast(Results, {**whole, "ensembles": whole["ensembles"][:1]})))


def test_over_seeds_it_has_means_and_deviations(results: Results):
    from robustkit.reports import _over_seeds

    (table,) = overview(with_suites(results))
    (other,) = overview(with_suites({**results, "ensembles": [{**e, "accuracy": 0.972} for e in results["ensembles"]]}))
    made = _over_seeds._combine([table, other], 500)
    assert made is not None
    assert made.rows[0][1].text == "98.2 ± 1.4"
    assert made.rows[1][3].verdict == "suspect"


@pytest.mark.parametrize("missing", ["transfer", "worst_case"])
def test_what_did_not_run_has_no_column(results: Results, missing: str):
    whole = cast(Results, {**with_suites(results), missing: []})
    (table,) = overview(whole)
    word = {"transfer": "misled", "worst_case": "worst"}[missing]
    assert not [name for name in table.columns if name.startswith(word)]

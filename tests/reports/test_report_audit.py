"""What the first page of an audit says."""

from __future__ import annotations

from robustkit.records.schema import Results
from robustkit.reports import _suite_audit


def test_masked_gradients_show_in_the_transfer_from_outside(results: Results):
    results["surrogates"] = [{**results["ensembles"][0], "id": "other"}]
    [name, *_] = [e["id"] for e in results["ensembles"]]
    eps = 8 / 255
    results["worst_case"] = [
        {"ensemble": name, "eps": eps, "norm": "linf", "robust_accuracy": 0.6, "ci95": [0.55, 0.65],
         "verdict": "trusted", "checks": []}
    ]  # fmt: skip
    for accuracy, found in ((0.5, 1), (0.57, 0), (0.7, 0)):
        results["transfer"] = [
            {"ensemble": name, "attack": "pgd", "params": {"eps": eps, "norm": "linf"}, "targeted": False,
             "metric": "accuracy", "sources": ["member-0", "surrogate other", "ensemble"],
             "targets": ["member-0", "ensemble"], "matrix": [[0.1, 0.1], [accuracy, accuracy], [0.1, 0.1]]}
        ]  # fmt: skip
        doubts = [text for text in _suite_audit.concerns(results) if "masked" in text]
        assert len(doubts) == found, accuracy


def test_transfer_from_outside_is_not_tested_without_a_row_of_it(results: Results):
    results["surrogates"] = [{**results["ensembles"][0], "id": "other"}]  # but every attack was of minimum norm
    text = "transfer from an independent model (--surrogate)"
    assert text in _suite_audit.not_tested(results)
    [first, *_] = [t for t in results["transfer"] if t["metric"] == "accuracy"]
    results["transfer"] = [{**first, "sources": ["surrogate other"], "matrix": [[0.5] * len(first["targets"])]}]
    assert text not in _suite_audit.not_tested(results)
    assert "crafted on other (" in _suite_audit.from_outside(results)[0]

"""What the first page of an audit says."""

from __future__ import annotations

from robustkit.reports import _suite_audit
from robustkit.schema import Results


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

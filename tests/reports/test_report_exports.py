"""What other sites read: entries of the RobustBench leaderboard, model cards of the Hugging Face Hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from robustkit.records.schema import Results
from robustkit.reports import card as card_module
from robustkit.reports import robustbench as robustbench_module
from robustkit.reports import write

# The fields of the entries in RobustBench's model_info/*/Linf/*.json, with their types there.
FIELDS = {
    "link": str, "name": str, "authors": str, "additional_data": (bool, type(None)), "number_forward_passes": int,
    "dataset": str, "venue": str, "architecture": str, "eps": str, "clean_acc": str, "reported": str,
    "autoattack_acc": str, "external": str, "footnote": str, "unreliable": bool,
}  # fmt: skip


def entry(folder: Path, threat: str, name: str = "adp") -> dict[str, Any]:
    return json.loads((folder / "robustbench" / "digits" / threat / f"{name}.json").read_text("utf-8"))


def test_entries_have_the_fields_of_the_leaderboard(results: Results, tmp_path: Path) -> None:
    first = next(e for e in results["evaluations"] if e["ensemble"] == "adp" and e["eps"] == 8 / 255)
    results["evaluations"].append({**first, "attack": "autoattack", "params": {}, "robust_accuracy": 0.091})
    results["ensembles"][0]["training"] = {"recipe": {"outliers_sha256": ""}, "metrics": {}}
    assert len(write(results, tmp_path, ["robustbench"])) == 2
    found = entry(tmp_path, "Linf")
    assert list(found) == list(FIELDS)
    assert all(isinstance(found[name], kind) for name, kind in FIELDS.items())
    assert (found["eps"], found["clean_acc"], found["autoattack_acc"], found["external"]) == (
        "8/255", "99.20", "9.10", "8.70",
    )  # fmt: skip
    assert found["unreliable"] is True  # its worst case is suspect
    assert found["additional_data"] is False
    assert found["architecture"] == "small_resnet (3x ensemble)"
    assert "verdict: suspect" in found["footnote"]
    other = entry(tmp_path, "Linf", "baseline")
    assert (other["unreliable"], other["additional_data"]) == (False, None)
    assert "autoattack_acc" not in other  # AutoAttack did not run, and nothing else is called so


def test_the_leaderboards_own_budget_is_taken_where_it_ran(results: Results) -> None:
    results["dataset"]["name"] = "cifar10"
    for w in results["worst_case"]:
        w["norm"] = "l2"
        w["eps"] = {4 / 255: 0.25, 8 / 255: 0.5, 0.05: 1.0}[w["eps"]]
    (found,) = [e for threat, name, e in robustbench_module.entries(results) if name == "adp"]
    assert found["eps"] == "0.5"


def test_corruptions_have_an_entry_of_their_own(results: Results, tmp_path: Path) -> None:
    results["corruptions"] = [
        {"ensemble": "adp", "suite": suite, "accuracy": 0.7719, "mce": 55.5, "reference": "alexnet"}
        for suite in ("cifar-c", "cifar-c-bar")
    ]  # type: ignore[typeddict-item]
    write(results, tmp_path, ["robustbench"])
    found = entry(tmp_path, "corruptions")
    assert (found["eps"], found["reported"], found["corruptions_acc"]) == (None, "", "77.19")
    assert "corruptions_mce_2d" not in found
    results["corruptions"][0]["suite"] = "imagenet-c"
    write(results, tmp_path, ["robustbench"])
    found = entry(tmp_path, "corruptions")
    assert (found["corruptions_acc_2d"], found["corruptions_mce_2d"]) == ("77.19", "55.50")


def front(path: Path) -> dict[str, Any]:
    _, head, rest = path.read_text("utf-8").split("---\n", 2)
    assert rest.startswith("\n# ")
    return yaml.safe_load(head)


def test_a_card_has_the_metadata_that_the_hub_reads(results: Results, tmp_path: Path) -> None:
    results["dataset"]["name"] = "cifar10"
    assert len(write(results, tmp_path, ["card"])) == 2
    found = front(tmp_path / "cards" / "adp" / "README.md")
    assert (found["pipeline_tag"], found["datasets"], found["metrics"]) == (
        "image-classification", ["uoft-cs/cifar10"], ["accuracy"],
    )  # fmt: skip
    (index,) = found["model-index"]
    (result,) = index["results"]
    assert index["name"] == "adp"
    assert result["task"]["type"] == "image-classification"
    assert result["dataset"] == {"type": "uoft-cs/cifar10", "name": "cifar10", "split": "test"}
    clean, *worst = result["metrics"]
    assert (clean["type"], clean["value"]) == ("accuracy", 0.992)
    assert [(m["value"], m["args"]["eps"], m["args"]["verdict"]) for m in worst] == [
        (w["robust_accuracy"], w["eps"], w["verdict"]) for w in results["worst_case"] if w["ensemble"] == "adp"
    ]


def test_a_card_says_who_withstands_all_norms(results: Results, tmp_path: Path) -> None:
    budgets = {"linf": 8 / 255, "l2": 0.5}
    results["union"] = [
        {"ensemble": id, "budgets": budgets, "robust_accuracy": share, "ci95": [share - 0.01, share + 0.01],
         "verdict": "suspect"}
        for id, share in (("adp", 0.042), ("baseline", 0.5))
    ]  # fmt: skip
    write(results, tmp_path, ["card"])
    (result,) = front(tmp_path / "cards" / "adp" / "README.md")["model-index"][0]["results"]
    (united,) = [m for m in result["metrics"] if "all norms" in m["name"]]
    assert united == {
        "type": "accuracy", "value": 0.042,
        "name": "Robust accuracy, worst of all attacks in all norms, eps 8/255 linf and 0.5 l2",
        "args": {"budgets": budgets, "verdict": "suspect", "ci95": [0.032, 0.052]},
    }  # fmt: skip
    text = (tmp_path / "cards" / "adp" / "README.md").read_text("utf-8")
    assert "| all of 8/255 linf and 0.5 l2 | 4.2 [3.2, 5.2] | suspect | - |" in text


def test_a_card_says_to_people_what_was_and_was_not_tested(results: Results, tmp_path: Path) -> None:
    recipe = {"epochs": 40, "optimiser": "adam", "defense": {"name": "adp"}}
    results["ensembles"][0] |= {"training": {"recipe": recipe, "metrics": {}}, "fusion": "mean-prob"}
    write(results, tmp_path, ["card"])
    text = (tmp_path / "cards" / "adp" / "README.md").read_text("utf-8")
    assert "| 8/255 | 8.7 [8.1, 9.3] | suspect | pgd-100 |" in text
    assert "- epochs: 40" in text
    assert "fused by mean-prob" in text
    assert "- backdoors and poisoned training data" in text
    assert "ab" * 32 in text


@pytest.mark.parametrize(
    "value",
    [
        {"a": 1.5, "b": None, "c": True, "d": [], "e": {}},
        {"text": ["yes", "no: 1", "# x", "'\"", "- a", "ünï", "1e3", "a\nb", ""]},
        {"deep": [{"a": [{"b": 1, "c": [2, [3, 4]]}], "d": "x"}, {"e": {"f": [None]}}]},
    ],
)
def test_the_yaml_says_what_it_was_given(value: Any) -> None:
    assert yaml.safe_load(card_module.yaml(value)) == value


def test_the_hubs_own_library_reads_a_card(results: Results, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    write(results, tmp_path, ["card"])
    loaded = hub.ModelCard.load(tmp_path / "cards" / "adp" / "README.md")
    assert loaded.data.model_name == "adp"
    assert [r.metric_value for r in loaded.data.eval_results] == [0.992, *(
        w["robust_accuracy"] for w in results["worst_case"] if w["ensemble"] == "adp"
    )]  # fmt: skip
    assert all(r.is_equal_except_value(r) and r.task_type == "image-classification" for r in loaded.data.eval_results)


def test_two_ids_of_one_file_name_have_two_files(results: Results, tmp_path: Path) -> None:
    text = json.dumps(results).replace('"baseline"', '"ADP"')
    write(json.loads(text), tmp_path, ["card", "robustbench"])
    assert sorted(path.name for path in (tmp_path / "cards").iterdir()) == ["adp", "adp-2"]
    names = {json.loads(path.read_text())["name"] for path in tmp_path.glob("robustbench/*/Linf/*.json")}
    assert names == {"ADP", "adp"}


def test_a_card_is_read_as_it_was_meant(results: Results) -> None:
    odd = "<b>_*a*|`"
    other = json.loads(json.dumps(results).replace('"adp"', json.dumps(odd)))
    first = next(e for e in other["ensembles"] if e["id"] == odd)
    assert r"# \<b\>\_\*a\*\|\`" in card_module.body(other, first)
    text = card_module.yaml({"a": 2e-05, "b": [-1e-07, 1.5e-05, 0.25, 3], "c": "2e-05"})
    assert yaml.safe_load(text) == {"a": 2e-05, "b": [-1e-07, 1.5e-05, 0.25, 3], "c": "2e-05"}

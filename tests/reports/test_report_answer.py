"""The answer comes first and is short, at any width; its one command can be copied."""

from __future__ import annotations

import io
import shlex
from typing import Any

import pytest
from rich.console import Console

from robustkit.records.schema import Check, Results
from robustkit.reports._answer import MOST, _over_seeds, _sentences, answer, broken, settles_most, settling, show_answer

COMMAND = "robustkit evaluate --defense adp --attacks pgd --set pgd.steps=200"


def advising(command: str) -> Check:
    advice = f"PGD of 100 steps breaks more of a subset: run {command}"
    return {"name": "iterations-suffice", "passed": False, "value": 0.1, "threshold": 0.01, "advice": advice}


def doubt(results: Results, at: int, command: str) -> None:
    results["evaluations"][at] |= {"verdict": "suspect", "checks": [advising(command)]}


def test_the_worst_case_comes_first_and_what_would_settle_most(results: Results) -> None:
    for at in range(5):
        doubt(results, at, COMMAND)
    doubt(results, 5, "robustkit evaluate --escalate")
    lines = answer(results)
    assert lines[0].startswith("adp keeps 8.7 % [8.1, 9.3], baseline 3.9 %, of 500 digits test images against")
    text = "\n".join(lines)
    assert "Verdict: suspect, the truth is probably lower." in " ".join(lines)
    assert "baseline      48.0 +   3.9 +    0.3 +" in text
    assert "adp           51.3 +   8.7 ?    0.7 +" in text
    doubtful = [e for e in (*results["worst_case"], *results["evaluations"]) if e["verdict"] != "trusted"]
    assert f"{len(doubtful)} of 30 numbers are not trusted (" in text
    assert "This would settle 5:" in text.replace("\n", " ")
    assert shlex.split(text[text.index("  robustkit") :].replace("\\\n", " ")) == shlex.split(COMMAND)


def test_of_a_set_up_in_doubt_nobody_says_that_the_truth_is_lower(results: Results) -> None:
    at = next(w for w in results["worst_case"] if w["verdict"] == "suspect")
    at["checks"] = [{**advising("robustkit evaluate"), "name": "sound-set-up"}]
    said = " ".join(answer(results))
    assert "Verdict: suspect, the set-up itself is in doubt." in said
    assert "probably lower" not in said


@pytest.mark.parametrize("width", [50, 80, 140])
@pytest.mark.parametrize("ensembles", [1, 2, 9])
def test_never_more_than_twelve_lines_with_the_path(results: Results, width: int, ensembles: int) -> None:
    found: list[Any] = []
    for at in range(ensembles):
        name = f"a-model-with-a-rather-long-name-{at}.safetensors"
        found += [{**w, "ensemble": name, "eps": eps / 255} for w in results["worst_case"][:1] for eps in range(1, 17)]
        results["ensembles"].append({**results["ensembles"][0], "id": name})
    results["worst_case"] = found
    results["ensembles"] = results["ensembles"][2:]
    doubt(results, 0, COMMAND + " --set pgd.restarts=5" * 9)
    assert len(answer(results, width)) <= MOST
    doubt(results, 0, COMMAND)
    lines = answer(results, width)
    assert len(lines) <= MOST
    assert max(map(len, lines)) <= width
    if width > 50:  # there the sentence takes most of the lines
        assert ("more ensembles" in " ".join(lines)) is (ensembles > 3)
        assert " more eps in the report" in " ".join(lines)
    stream = io.StringIO()
    show_answer(results, Console(file=stream, width=width))
    assert stream.getvalue().splitlines() == lines


def test_a_long_command_goes_before_the_table(results: Results) -> None:
    files = " ".join(f"--checkpoint trainings/of-another-day/ensemble-{at}" for at in range(5))
    long = f"robustkit evaluate {files} --attacks pgd"
    for at in range(5):
        doubt(results, at, long)
    lines = answer(results)
    assert len(lines) <= MOST
    assert not any(line.startswith("worst case %") for line in lines)
    assert shlex.split("\n".join(lines).partition("  robustkit")[2].replace("\\\n", " ")) == shlex.split(long)[1:]


def test_no_attack_no_worst_case(results: Results, empty: Results) -> None:
    ensembles = results["ensembles"]
    assert answer({**empty, "ensembles": ensembles}) == [
        "On 500 digits test images, without an attack: baseline 99.2 %, adp 99.2 % right."
    ]
    many = [{**ensembles[0], "id": str(at), "accuracy": 0.9 + at / 100} for at in range(5)]
    assert "5 ensembles 90.0 to 94.0 %" in answer({**empty, "ensembles": many})[0]  # type: ignore[typeddict-item]


def test_a_model_by_itself_stands_beside_its_clean_accuracy(results: Results) -> None:
    for key in ("worst_case", "evaluations"):
        results[key] = [e for e in results[key] if e["ensemble"] == "adp"]  # type: ignore[literal-required]
    results["ensembles"] = [e for e in results["ensembles"] if e["id"] == "adp"]
    assert " ".join(answer(results)).startswith(
        "adp keeps 8.7 % [8.1, 9.3], of 99.2 % without an attack, of 500 digits"
    )


def test_all_trusted_needs_no_command(results: Results) -> None:
    for e in (*results["evaluations"], *results["worst_case"]):
        e |= {"verdict": "trusted", "checks": []}
    assert answer(results)[-1] == "All 30 numbers are trusted."
    assert settles_most(results) == ("", 0)


def test_where_no_command_settles_it_the_page_says_what_most_worst_cases_fail(results: Results) -> None:
    odd: Check = {**advising(""), "name": "sound-set-up", "advice": "the set-up itself is in doubt"}
    for e in (*results["evaluations"], *results["worst_case"]):
        e |= {"verdict": "suspect", "checks": [odd]}
    times = len(results["worst_case"])
    assert settling(results)[0].endswith(
        f"(30 suspect ?). The commonest reason (sound-set-up, {times} times): the set-up itself is in doubt."
    )
    assert settling(results, brief=True)[0].endswith("(30 suspect ?).")


def test_beside_a_trusted_worst_case_a_short_attack_needs_nothing_to_be_run(results: Results) -> None:
    beaten: Check = {**advising(""), "advice": "quorum breaks more: quote the worst case"}
    for e in results["worst_case"]:
        e |= {"verdict": "trusted", "checks": []}
    for e in results["evaluations"]:
        e |= {"verdict": "suspect", "checks": [beaten]}
    text = " ".join(answer(results))
    assert text.endswith("24 of 30 numbers are not trusted (24 suspect ?). Quote the worst case, which is.")


def test_concerns_of_an_audit_are_named(results: Results) -> None:
    finding = {
        "what": "outputs",
        "value": "probabilities",
        "how": "detected",
        "evidence": "they sum to 1",
        "concern": True,
    }
    results["audit"] = [
        {"ensemble": "adp", "member": 0, "name": "model.pt", "findings": [finding, {**finding, "what": "labels"}]}
    ]  # type: ignore[typeddict-item]
    text = " ".join(answer(results))
    assert "A reason to doubt every number: model.pt: outputs is probabilities (they sum to 1), and 1 more" in text


def test_a_command_is_broken_between_options_and_means_the_same() -> None:
    command = "robustkit audit 'my model.pt' --dataset npz:/data/x.npz --eps 0.1,0.2 --targeted --escalate"
    lines = broken(command, 50)
    assert max(map(len, lines)) <= 50
    assert all(line.endswith(" \\") for line in lines[:-1])
    assert "  robustkit audit 'my model.pt' \\" in lines
    assert shlex.split("\n".join(lines).replace("\\\n", " ")) == shlex.split(command)


def test_over_seeds_the_means_are_said_with_their_deviations(results: Results) -> None:
    """Two seeds of each: 8.7 and 3.9 % become means of 8.7 and 5.7, 3.9 and 1.9."""
    doubled: dict[str, list[Any]] = {"ensembles": [], "worst_case": []}
    for seed, less in ((0, 0.0), (1, 0.02)):
        for e in results["ensembles"]:
            doubled["ensembles"].append({**e, "id": f"{e['id']}-seed{seed}", "group": e["id"], "seed": seed})
        for w in results["worst_case"]:
            lower = max(0.0, w["robust_accuracy"] - less)
            doubled["worst_case"].append({**w, "ensemble": f"{w['ensemble']}-seed{seed}", "robust_accuracy": lower})
    over = [
        {"group": w["ensemble"], "metric": "worst_case", "eps": w["eps"], "norm": "linf", "seeds": [0, 1],
         "ensembles": [f"{w['ensemble']}-seed{seed}" for seed in (0, 1)], "mean": max(0.0, w["robust_accuracy"] - 0.01),
         "std": 0.0141, "ci95": w["ci95"]}
        for w in results["worst_case"]
    ]  # fmt: skip
    results |= {**doubled, "over_seeds": over}  # type: ignore[typeddict-item]
    lines = answer(results)
    text = " ".join(lines)
    assert text.startswith("adp keeps 7.7 % [8.1, 9.3], baseline 2.9 %, of 500 digits")
    assert "Means over 2 seeds; standard deviations there, in points: baseline 1.4, adp 1.4." in text
    assert [line.split()[0] for line in lines if line.startswith(("adp ", "baseline "))] == ["adp", "baseline", "adp"]
    assert len(lines) <= MOST
    corrupted = [{"suite": "cifar-c", "ensemble": f"adp-seed{seed}", "accuracy": 0.5 + 0.1 * seed} for seed in (0, 1)]
    results |= {"corruptions": corrupted}  # type: ignore[typeddict-item]
    assert "Under the corruptions of cifar-c, adp keeps 55.0 % on average." in [*_sentences(_over_seeds(results)[0])]

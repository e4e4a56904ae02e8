"""Networks that return several things: which of them are the logits is found by accuracy, and said."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

import robustkit
from robustkit.auditing.detecting import Detected, detect
from robustkit.auditing.entries import entries, entry, usual
from robustkit.auditing.in_memory import Called, identity
from robustkit.auditing.trials import Given

A, B = torch.rand(4, 3), torch.rand(4, 5)
Pair = namedtuple("Pair", ["hidden", "scores"])
TEN = tuple("0123456789")
PLAIN = Given(normalize="none", order="rgb", scale=1.0)


@pytest.mark.parametrize(
    ("output", "names", "first"),
    [
        (A, [""], ""),
        ((A, B), ["0", "1"], "0"),
        ({"hidden": A, "logits": B}, ["logits", "hidden"], "logits"),
        (SimpleNamespace(hidden=A, logits=B), ["logits", "hidden"], "logits"),
        (Pair(A, B), ["hidden", "scores"], "hidden"),
        ((torch.rand(4, 2, 3, 3), B), ["1"], None),
        ({"out": (A, [B]), "n": 3, "labels": torch.zeros(4, 3, dtype=torch.long)}, ["out.0", "out.1.0"], None),
        ((A[:, :, None, None], None), ["0"], "0"),
        ("text", [], None),
    ],
)
def test_rows_are_found_by_their_places(output: object, names: list[str], first: str | None):
    assert list(entries(output)) == names
    assert usual(output) == first
    for name in names:
        assert torch.equal(entry(output, name), B if entries(output)[name].shape[1] == 5 else A)


class Several(nn.Module):
    """Right on every image with one of its outputs: the mean brightness is the label."""

    def __init__(self, returns) -> None:
        super().__init__()
        self.look = nn.Conv2d(1, 1, 1)
        self.look.weight.data, self.look.bias.data = torch.ones(1, 1, 1, 1), torch.zeros(1)
        self.returns = returns

    def forward(self, x: Tensor) -> object:
        level = self.look(x).mean((1, 2, 3))[:, None]
        logits = -50 * (level - torch.arange(10) / 10) ** 2
        return self.returns(logits, logits.roll(1, 0), torch.cat([level] * 16, 1))


@pytest.fixture
def levels() -> tuple[Tensor, Tensor]:
    y = torch.randint(10, (100,), generator=torch.Generator().manual_seed(0))
    return (y / 10)[:, None, None, None].expand(-1, 1, 4, 4).contiguous(), y


def finding(found: Detected):
    return next(f for f in found.findings if f.what == "output")


@pytest.mark.parametrize(
    ("returns", "name", "evidence"),
    [
        (lambda z, other, hidden: (hidden, z), "1", "the only one with a column for each class"),
        (lambda z, other, hidden: {"hidden": other, "scores": z, "more": hidden}, "scores",
         "scores 1.000"),
        (lambda z, other, hidden: (None, {"aux": other, "main": z}), "1.main", "1.main 1.000"),
    ],
)  # fmt: skip
def test_accuracy_decides_which_output_is_taken(levels, returns, name: str, evidence: str):
    for network in (Several(returns), Called(Several(returns))):
        found = detect(network, *levels, PLAIN, TEN)
        assert (found.how.output, found.trials[0].accuracy) == (name, 1.0)
        assert (finding(found).value, finding(found).concern) == (name, False)
        assert evidence in finding(found).evidence


def test_logits_in_the_order_of_the_data_come_first(levels):
    found = detect(Several(lambda z, other, hidden: (z.roll(1, 1), z)), *levels, PLAIN, TEN)
    assert (found.how.output, found.renaming) == ("1", None)


def test_what_accuracy_cannot_tell_is_a_concern(levels):
    nearly = detect(Several(lambda z, other, hidden: (torch.cat([other[:3], z[3:]]), z)), *levels, PLAIN, TEN)
    assert (nearly.how.output, finding(nearly).how, finding(nearly).concern) == ("0", "assumed", True)
    same = detect(Several(lambda z, other, hidden: {"logits": z, "probabilities": z.softmax(1)}), *levels, PLAIN, TEN)
    assert (same.how.output, finding(same).concern) == ("logits", False)


def test_of_outputs_that_answer_alike_one_that_an_attack_can_follow_is_taken(levels):
    found = detect(Several(lambda z, other, hidden: (z.detach(), z)), *levels, PLAIN, TEN)
    assert (found.how.output, finding(found).concern) == ("1", False)


def test_what_holds_the_usual_logits_alone_is_not_said(levels):
    found = detect(Several(lambda z, other, hidden: (z, hidden)), *levels, PLAIN, TEN)
    assert found.how.output == ""
    assert "output" not in found.how.to_json()
    assert "output" not in [f.what for f in found.findings]


def test_functions_that_differ_in_a_later_output_are_two_models(levels):
    x = levels[0][:8]
    first, second = (Called(Several(lambda z, other, hidden, by=by: (hidden, z * by))) for by in (1, 2))
    assert identity(first, x) != identity(second, x)
    assert identity(first, x) == identity(first, x)


def test_the_audit_evaluates_the_logits(levels, tmp_path: Path):
    results = robustkit.audit(
        Several(lambda z, other, hidden: (hidden, z)), levels, normalize="none", pixel_range=1, attacks="fgsm",
        eps="0.01,0.5", reference=False, trust="off", suites="attacks", workers=1, out=tmp_path, formats=("html",),
    )  # fmt: skip
    assert [w["robust_accuracy"] for w in results["worst_case"]][0] == results["ensembles"][0]["accuracy"] == 1.0
    assert "output 1 (detected)" in (tmp_path / "report.html").read_text("utf-8")

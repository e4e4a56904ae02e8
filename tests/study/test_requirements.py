"""What a number has to be: the grammar, and what is refused before any work is done."""

from __future__ import annotations

import pytest

from robustkit.base.errors import UserError
from robustkit.pipeline import request
from robustkit.study.config import EvaluateConfig
from robustkit.study.requirements import parse

READ = {
    "worst_case@8/255>=0.30": ("worst_case", 8 / 255, "", ">=", 0.3),
    "adp:worst_case@0.1 > 30%": ("adp:worst_case", 0.1, "", ">", 0.3),
    " clean>=.9 ": ("clean", None, "", ">=", 0.9),
    "worst_case@0.5 l2<=0.2": ("worst_case", 0.5, "l2", "<=", 0.2),
    "torchattacks:PGD@1/255<1": ("torchattacks:PGD", 1 / 255, "", "<", 1.0),
    "pgd-10>=0": ("pgd-10", None, "", ">=", 0.0),
    "a b:pgd-10 [restarts=5]>=0.1": ("a b:pgd-10 [restarts=5]", None, "", ">=", 0.1),
}


@pytest.mark.parametrize("text", READ)
def test_what_is_typed_is_read(text: str):
    one = parse(text)
    assert (one.subject, one.eps, one.norm, one.operator, one.share) == READ[text]


REFUSED = {
    "worst_case=0.3": "is no requirement; write it like 'worst_case@8/255>=0.30'",
    "worst_case@0.1": "is no requirement",
    ">=0.3": "is no requirement",
    "worst_case@0.1>=0.3>=0.4": "is no requirement",
    "worst_case>=30": "30 is no share of samples; write it in [0, 1], or in percent like 30%",
    "worst_case>=a": "share in --min 'worst_case>=a' 'a' is not a number",
    "worst_case@8/0>=0.3": "eps '8/0' divides by zero",
    "worst_case@2>=0.3": "eps 2 is out of range",
    "clean@0.1>=0.3": "clean accuracy has no eps; leave @0.1 out",
    "adp:clean@0.1>=0.3": "clean accuracy has no eps",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_cannot_be_read_is_a_sentence(text: str):
    with pytest.raises(UserError) as caught:
        parse(text)
    assert REFUSED[text] in str(caught.value)


def test_the_bound_itself_holds_or_not():
    assert parse("clean>=0.3").holds(30 / 100)
    assert not parse("clean>0.3").holds(30 / 100)
    assert parse("clean<=0.3").holds(30 / 100)
    assert not parse("clean<0.3").holds(30 / 100)


def test_an_ensemble_is_told_from_a_library():
    metrics = ["clean", "worst_case", "PGD", "torchattacks:PGD"]
    assert parse("torchattacks:PGD>0").about(metrics, ["adp"]) == ("", "torchattacks:PGD")
    assert parse("adp:torchattacks:PGD>0").about(metrics, ["adp"]) == ("adp", "torchattacks:PGD")
    with pytest.raises(UserError, match="unknown ensemble in --min 'apd': did you mean 'adp'"):
        parse("apd:clean>0").about(metrics, ["adp", "baseline"])
    with pytest.raises(UserError, match="unknown number in --min 'worst_cse': did you mean 'worst_case'"):
        parse("adp:worst_cse>0").about(metrics, ["adp"])


def test_an_eps_of_two_norms_is_asked_which():
    budgets = [("linf", 0.5), ("l2", 0.5), ("l2", 1.0)]
    assert parse("worst_case@0.5 l2>0").at(budgets) == [("l2", 0.5)]
    assert len(parse("worst_case>0").at(budgets)) == 3
    with pytest.raises(UserError, match="of several norms; add one of l2, linf"):
        parse("worst_case@0.5>0").at(budgets)
    with pytest.raises(UserError, match=r"not run; there are 0\.5 l2, 1 l2, 0\.5\."):
        parse("worst_case@8/255>0").at(budgets)


ASKED = {
    "worst_case@0.1>=0.3": {"eps": "0.1"},
    "pgd-10@0.1>=0.3": {"eps": "0.1", "attacks": "pgd"},
    "quorum@0.1>=0.3": {"eps": "0.1"},
    "mora@0.1>=0.3": {"eps": "0.1", "escalate": True},
    "cw@0.5 l2>=0.3": {"eps": "0.1", "attacks": "cw"},
    "clean>=0.3": {"suites": "transfer"},
}


@pytest.mark.parametrize("text", ASKED)
def test_what_will_be_there_is_let_through(text: str):
    request.check(EvaluateConfig(minimum=[text], **ASKED[text]))


UNASKED = {
    "worst_case@0.2>=0.3": ({"eps": "0.1"}, "not run; there are 0.1."),
    "mora@0.1>=0.3": ({"eps": "0.1"}, "unknown number in --min 'mora'"),
    "quorum@0.1>=0.3": ({"eps": "0.1", "reference": False}, "unknown number in --min 'quorum'"),
    "worst_case>=0.3": ({"suites": "transfer"}, "unknown number in --min 'worst_case': Known: clean."),
}


@pytest.mark.parametrize("text", UNASKED)
def test_what_will_not_be_there_is_refused_before_any_work(text: str):
    given, said = UNASKED[text]
    with pytest.raises(UserError) as caught:
        request.check(EvaluateConfig(minimum=[text], **given))
    assert said in str(caught.value)


def test_ensembles_are_known_once_the_models_are():
    config = EvaluateConfig(minimum=["adp:worst_case@0.1>=0.3", "adp-seed1:clean>0.5"], eps="0.1")
    asked = request.check(config)  # any ensemble may be named here
    asked.foresee(config, ["adp-seed0", "adp-seed1", "adp"])
    with pytest.raises(UserError, match="unknown ensemble in --min 'adp-seed1': did you mean 'adp'"):
        asked.foresee(config, ["adp", "baseline"])


def test_a_verdict_of_nothing_is_refused():
    with pytest.raises(UserError, match="--require trusted is of attacked numbers, but no attack runs"):
        request.check(EvaluateConfig(require="trusted", suites="transfer"))

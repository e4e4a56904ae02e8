"""Budgets of one norm or several: every way to get them wrong is answered with a sentence that names the usual ones."""

from __future__ import annotations

import pytest

from robustkit.base.budgets import budget, budgets, check_largest, threats, together, union_text, usual
from robustkit.base.errors import UserError
from robustkit.base.names import THREAT_NORMS

SEVERAL = ("linf", "l2", "l1")


def test_budgets_of_one_norm_need_no_name():
    assert budgets("8/255,2/255, 0.1,2/255", ["linf"]) == {"linf": (2 / 255, 8 / 255, 0.1)}
    assert budgets(0.3, ["linf"]) == {"linf": (0.3,)}
    assert budgets([12, "5"], ["l1"]) == {"l1": (5.0, 12.0)}
    assert budgets(10, ["l0"]) == {"l0": (10.0,)}
    assert budgets("l2=0.5,1", ["l2"]) == {"l2": (0.5, 1.0)}
    assert budgets(None, ["linf"]) == {}


def test_budgets_of_several_norms_say_of_which():
    assert budgets("linf=4/255,8/255,l2=1.0", SEVERAL) == {"linf": (4 / 255, 8 / 255), "l2": (1.0,)}
    assert budgets(["l1=12", 5, "linf=0.1"], SEVERAL) == {"linf": (0.1,), "l1": (5.0, 12.0)}
    assert list(budgets("l1=3,linf=0.1", SEVERAL)) == ["linf", "l1"]  # in the order of the norms


@pytest.mark.parametrize(
    ("text", "norms", "message"),
    [
        ("8/0", ["linf"], "'8/0' divides by zero"),
        ("-0.1", ["linf"], r"eps -0.1 is out of range; it must be in \[0, 1\]"),
        ("1.5", ["linf"], r"eps 1.5 is out of range.*usual in linf .*are 8/255 or 0.1; .*10 or 20 in l0"),
        ("-1", ["l2"], "eps -1 is out of range; it must be at least 0 in l2"),
        ("many", ["linf"], "'many' is not a number; write it like 8/255"),
        ("1/2/3", ["linf"], "'1/2/3' is not a number"),
        ("nan", ["l1"], "'nan' is not a finite number"),
        ("inf", ["l1"], "'inf' is not a finite number"),
        ("", ["linf"], "eps is empty"),
        (",", ["linf"], "eps is empty"),
        ("10.5", ["l0"], "eps 10.5 is no whole number, and in l0 it counts values of an image; usual in l0"),
        ("8/255", ["l0"], "no whole number.*8/255 or 0.1 in linf"),
        ("8/255", ["l1"], "eps 0.0313725 leaves an image as it is in l1; usual in l1 .*5 or 12; 8/255 or 0.1 in linf"),
        ("0.1", SEVERAL, "eps '0.1' does not say of which norm; write --eps linf=8/255,l2=0.5,l1=5"),
        ("0.1,l2=3", SEVERAL, "eps '0.1' does not say of which norm"),
        ("l0=3", SEVERAL, "eps 'l0=3' is of norm 'l0', which is not evaluated, only linf, l2, l1"),
        ("l2=0.5", ["linf"], "name the norms with --norms"),
        ("linf=0.1,l1=half", SEVERAL, "'half' is not a number"),
    ],
)
def test_bad_budgets(text: str, norms: list[str], message: str):
    with pytest.raises(UserError, match=message):
        budgets(text, norms)


def test_a_budget_of_nothing_is_one_in_every_norm():
    assert [budget(0, norm) for norm in THREAT_NORMS] == [0.0] * 4
    assert budgets("l1=0", ["l1"]) == {"l1": (0.0,)}


def test_an_l0_budget_is_at_most_all_values():
    check_largest(64, "l0", 64.0)
    check_largest(1e9, "l1", 64.0)  # where more than there can be is no mistake of the unit
    with pytest.raises(UserError, match="eps 65 is more than the 64 values of an image; usual in l0"):
        check_largest(65, "l0", 64.0)


def test_norms():
    assert threats("linf, l2,linf", THREAT_NORMS) == ("linf", "l2")
    assert threats(None, THREAT_NORMS) == ()
    with pytest.raises(UserError, match="unknown norm 'l3'"):
        threats("linf,l3", THREAT_NORMS)
    assert all(norm in usual("l2") for norm in THREAT_NORMS)


def test_which_budgets_go_together():
    assert together({"linf": (0.1, 0.2), "l2": (0.5, 1.0)}) == [{"linf": 0.1, "l2": 0.5}, {"linf": 0.2, "l2": 1.0}]
    assert together({"linf": (0.1, 0.2), "l2": (0.5,)}) == [{"linf": 0.1, "l2": 0.5}, {"linf": 0.2, "l2": 0.5}]
    assert together({"linf": (0.1,), "l0": (5, 9)}) == [{"linf": 0.1, "l0": 5}, {"linf": 0.1, "l0": 9}]
    with pytest.raises(UserError, match=r"linf: 0.1, 0.2, 0.3; l2: 0.5, 1\); give each norm as many, or one"):
        together({"linf": (0.1, 0.2, 0.3), "l2": (0.5, 1.0)})
    assert union_text({"linf": 8 / 255, "l2": 0.5, "l0": 10.0}) == "8/255 linf and 0.5 l2 and 10 l0"

"""What makes a number worth trusting: an attack of another family looked, and found no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from trust_by_hand import (
    SETTING,
    N,
    about,
    ensemble_of,
    failed,
    grey,
    labelled,
    make,
    outcome,
    record,
    samples,
    slope,
    study_of,
    tried,
)

from robustkit.attacks import attack, spec
from robustkit.base.progress import Reporter
from robustkit.functional.stats import allowed
from robustkit.pipeline.results import build
from robustkit.pipeline.run import run_evaluation
from robustkit.records.cells import Cell, DatasetRecord, Run, Spec
from robustkit.records.schema import Results
from robustkit.records.store import Store
from robustkit.study.plan import FollowUp, Study
from robustkit.trust import Scored, judge, remedies
from robustkit.trust._escalate import Known, path
from robustkit.trust._evidence import families, settles
from robustkit.trust._plan import plan
from robustkit.trust.outsider import CHALLENGERS, challenger, ladder

RUN = make(first=100)  # of family loss; breaks the last 100 of 200


# --- families


def test_how_each_attack_works():
    """By hand, from the papers: what is not named here ascends a loss of the fused output."""
    stated = {
        "quorum": ("members",), "fusion-swap": ("members",), "arc": ("members",), "mora": ("reweighing",),
        "apgd-t": ("targeted",),
        "square": ("gradient-free",), "autoattack": ("loss", "targeted", "smallest", "gradient-free"),
        "rays": ("gradient-free",),
        **dict.fromkeys(
            ("cw", "ddn", "deepfool", "ead", "fab", "fmn", "jsma", "nearest", "pdpgd", "sigma-zero"), ("smallest",)
        ),
    }  # fmt: skip
    assert {name: families(name) for name in attack.names()} == {
        **dict.fromkeys(attack.names(), ("loss",)), **stated
    }  # fmt: skip
    assert families("foolbox:LinfDeepFoolAttack") == ("loss",)


@pytest.mark.parametrize(("ran", "members", "expected"), [
    (["loss"], 3, "mora"), (["loss", "members"], 2, "mora"), (["loss"], 1, "apgd-t"),
    (["loss", "reweighing"], 3, "apgd-t"), (["loss", "reweighing", "targeted"], 3, "quorum"),
    (["loss", "targeted"], 1, "quorum"), (["members", "targeted"], 1, "square"),
    (["members", "targeted", "reweighing"], 3, "square"), ([], 1, "apgd-t"),
])  # fmt: skip
def test_the_first_attack_whose_family_did_not_run(ran: Sequence[str], members: int, expected: str):
    found = challenger(frozenset(ran), members)
    assert found is not None
    family, chosen = found
    assert chosen.name == expected
    assert (family,) == families(expected)
    assert family not in ran


def test_where_all_ran_nobody_is_left():
    assert challenger(frozenset({"members", "targeted", "gradient-free", "reweighing"}), 3) is None
    assert challenger(frozenset({"members", "targeted", "gradient-free"}), 1) is None


# --- unchecked


@pytest.mark.parametrize("run", [RUN, None])
def test_where_nobody_tried_a_number_is_unchecked_and_says_what_to_run(run: Scored | None):
    runs = [RUN] if run is None else []
    assert outcome(about(run, *runs))[0] == "trusted"
    verdict, checks = judge(about(run, *runs, outsider=""))
    assert verdict == "unchecked"
    (advice,) = [c["advice"] for c in checks if not c["passed"]]
    own = "--escalate" if run is None else "--attacks mora"
    assert advice == f"no attack of another kind has tried to lower this number: run robustkit evaluate {own}"
    if run:  # of one model there is nothing to reweigh
        _, checks = judge(about(run, outsider="", members=1))
        (advice,) = [c["advice"] for c in checks if not c["passed"]]
        assert advice.endswith("run robustkit evaluate --attacks apgd-t")


def test_a_short_witness_of_another_family_is_what_follows():
    runs = [make("quorum", first=100), make("mora", first=90, broken=N - 90), make("pgd", first=95)]
    untried = about(None, *runs, outsider="")
    (finding,) = [found for name, found in remedies(untried) if name == "tried-by-others"]
    assert finding.remedy == (spec("apgd-t", steps=25, targets=3),)
    alone = about(runs[2], outsider="")
    (finding,) = [found for name, found in remedies(alone) if name == "tried-by-others"]
    assert finding.remedy == (spec("mora"),)


def test_an_attack_of_a_family_that_ran_is_no_outsider():
    for name in ("mora", "apgd-t", "quorum", "square"):
        by_itself = make(name, first=100)
        assert outcome(about(by_itself, outsider=name))[0] == "unchecked"
        assert outcome(about(None, by_itself, outsider=name))[0] == "unchecked"
    facts = {"repeats": tried()}  # some probe ran, but not the one that decides
    assert failed(about(make("pgd", first=100), make("mim", first=100), outsider="", facts=facts)) == {
        "tried-by-others"
    }


@pytest.mark.parametrize("other", ["quorum", "apgd-t", "square", "fmn", "mora"])
def test_a_run_of_another_family_vouches_for_each_run_and_a_strong_one_for_the_worst_case_of_both(other: str):
    facts = {"repeats": tried()}
    fellow = make(other, first=100)
    assert outcome(about(RUN, fellow, outsider="", facts=facts))[0] == "trusted"
    assert outcome(about(fellow, RUN, outsider="", facts=facts))[0] == "trusted"
    both = "trusted" if other in ("quorum", "apgd-t", "mora") else "unchecked"
    assert outcome(about(None, RUN, fellow, outsider="", facts=facts))[0] == both
    lower = make(other, first=97, broken=N - 97)  # the number is its own: who has tried to lower that?
    assert outcome(about(None, RUN, lower, outsider="", facts=facts))[0] == "unchecked"
    elsewhere = make(other, first=100, eps=0.2)
    assert outcome(about(RUN, elsewhere, outsider="", facts=facts))[0] == "unchecked"
    assert outcome(about(RUN, fellow, outsider=""))[0] == "unchecked"  # of no fact of the model


def test_a_targeted_number_is_tried_only_by_what_has_its_aim():
    aimed = make(first=100, target="random")
    assert outcome(about(aimed))[0] == "unchecked"
    other = make("apgd-t", first=100, target="random")
    assert outcome(about(aimed, other))[0] == "trusted"
    assert outcome(about(aimed, make("apgd-t", first=100)))[0] == "unchecked"


def test_where_nothing_is_left_to_break_nobody_need_try():
    facts = {"repeats": tried()}
    broken, still = make(broken=N), make(eps=0.0, first=100)
    assert outcome(about(broken, outsider="", facts=facts))[0] == "trusted"
    assert outcome(about(None, broken, outsider="", facts=facts))[0] == "trusted"
    assert outcome(about(still, outsider="", facts=facts))[0] == "trusted"  # no pixel may move
    assert outcome(about(broken, outsider=""))[0] == "unchecked"  # nobody looked at the model at all


@pytest.mark.parametrize("norm", ["l0", "l1"])
def test_where_no_attack_of_another_kind_has_run_the_number_is_unchecked(norm: str):
    facts = {"repeats": tried()}
    run, other = (make(name, eps=None, at=5.0, steps=None, broken=10, norm=norm) for name in ("fmn", "fab"))
    evidence = about(run, other, outsider="", facts=facts)
    worst = replace(evidence, run=None)
    for found in (evidence, worst):
        verdict, checks = judge(found)
        assert verdict == "unchecked"
        (advice,) = [c["advice"] for c in checks if not c["passed"]]
        none = "no attack of another kind works in l0: the number is worth what ran, and no more"
        run_it = "add apgd-ce to --attacks" if found is worst else "run robustkit evaluate --attacks apgd-ce"
        assert advice == none if norm == "l0" else run_it in advice


def test_all_families_beside_each_other_are_enough_but_not_where_nobody_looked():
    runs = [make(name, first=100) for name in ("pgd", "quorum", "mora", "apgd-t", "square")]
    assert outcome(about(None, *runs, outsider="", facts={"repeats": tried()}))[0] == "trusted"
    assert outcome(about(None, *runs, outsider=""))[0] == "unchecked"


# --- what the outsider broke


def many(run: Scored, n: int) -> Scored:
    """The run on n samples, all of which stand."""
    return Scored(replace(run.run, samples=samples([], n)), run.eps)


@pytest.mark.parametrize(("n", "whole", "broken", "verdict"), [
    (236, 400, 0, "trusted"), (236, 400, 1, "trusted"), (236, 400, 2, "suspect"), (236, 237, 2, "suspect"),
    (236, 236, 2, "trusted"), (236, 236, 3, "suspect"), (200, 200, 2, "trusted"), (200, 200, 3, "suspect"),
    (40, 40, 1, "trusted"), (40, 40, 2, "suspect"),
])  # fmt: skip
def test_a_subset_must_rule_out_two_points_and_the_whole_is_what_it_is(n: int, whole: int, broken: int, verdict: str):
    facts = {"outsider": tried(n=n, broken=broken)}
    run = many(make(), whole)
    for evidence in (about(run, facts=facts), about(None, run, facts=facts)):
        found, checks = judge(evidence)
        assert found == verdict
        (own,) = [c for c in checks if c["name"] == "holds-against-outsiders"]
        assert own["value"] == broken / n
        expected = allowed(n) / n if n < whole else max(0.01, 1 / n)
        assert own["threshold"] == pytest.approx(expected)


def test_what_the_number_does_not_count_as_robust_is_not_held_against_it():
    facts = {"outsider": tried(broken=np.arange(N) < 50)}
    assert failed(about(make(broken=0), facts=facts)) == {"holds-against-outsiders"}
    assert failed(about(make(broken=50), facts=facts)) == set()
    assert failed(about(make(broken=40), facts=facts)) == {"holds-against-outsiders"}
    assert failed(about(make(broken=0, target="random"), make("mora", broken=0, target="random"), facts=facts)) == set()


def test_what_it_found_is_advised_on_every_sample():
    ((name, _, _), *_) = CHALLENGERS
    facts = {"outsider": tried(name, broken=50)}
    (advice,) = [c["advice"] for c in judge(about(make(broken=0), facts=facts))[1] if not c["passed"]]
    assert advice == (
        "mora, which works in another way, breaks more: "
        "run robustkit evaluate --attacks quorum,mora --set quorum.restarts=12 --set mora.restarts=2"
    )


def test_of_votes_reweighing_follows_as_a_second_opinion_only():
    assert [a.params["restarts"] for a in ladder(3)] == [12, 2]
    assert [a.params["restarts"] for a in ladder(3, votes=True)] == [12, 1]
    assert ladder(1, votes=True) == ladder(1)


# --- the plan


def items(members: int, *runs: Scored, trust: str = "quick"):
    n = len(runs[0].run.samples.y)
    own = record("e0", members)
    data = DatasetRecord("digits", "test", n, ("a", "b"), "dd", (1, 2, 3))
    study = Study((own,), data, (), (0.1,), "linf", 0.1, trust=trust, suites=("attacks",), reference=False)
    return plan(study, own, Run(Cell("clean", "e0", "dd"), samples([], n)), runs)


def outsiders(members: int, *runs: Scored, trust: str = "quick") -> dict[tuple[str, float | None], tuple[str, int]]:
    found = [i for i in items(members, *runs, trust=trust) if i.name == "outsider"]
    return {(i.cell.norm, i.cell.eps): (i.cell.attack.params["by"]["name"], len(i.rows)) for i in found}


@pytest.mark.parametrize("trust", ["quick", "full"])
def test_it_looks_at_every_budget_and_at_no_more_samples_than_there_are(trust: str):
    sweep = [0.05, 0.1, 0.2, 0.3, 0.4]
    runs = [many(make(eps=eps), 400) for eps in sweep]
    expected = {("linf", eps): ("mora", 236) for eps in sweep}
    assert outsiders(2, *runs, trust=trust) == expected
    l2 = many(make(eps=1.0, norm="l2"), 400)
    assert outsiders(2, *runs, l2, trust=trust) == {**expected, ("l2", 1.0): ("mora", 236)}
    assert outsiders(2, make()) == {("linf", 0.1): ("mora", N)}
    assert outsiders(2, many(make(target="random"), 400), *runs) == expected
    assert outsiders(2, many(make("fmn", eps=None, at=5.0, norm="l1"), 400)) == {}


def test_it_is_of_a_family_that_did_not_run_at_that_budget():
    pgd, quorum, mora = (many(make(name), 400) for name in ("pgd", "quorum", "mora"))
    for runs, expected in (((pgd,), "mora"), ((pgd, quorum), "mora"), ((pgd, mora), "apgd-t")):
        assert outsiders(3, *runs) == {("linf", 0.1): (expected, 236)}
    assert outsiders(1, pgd, quorum) == {("linf", 0.1): ("apgd-t", 236)}
    every = [many(make(name), 400) for name in ("quorum", "mora", "apgd-t", "square")]
    assert outsiders(3, *every) == {}
    elsewhere = many(make("mora", eps=0.2), 400)
    assert outsiders(3, pgd, elsewhere) == {("linf", 0.1): ("mora", 236), ("linf", 0.2): ("apgd-t", 236)}


def test_longer_and_swap_have_nothing_to_find_beside_an_attack_on_the_members():
    pgd, quorum, swap = (make(name, params={"restarts": 4}) for name in ("pgd", "quorum", "fusion-swap"))
    alone, beside = ({i.name for i in items(2, *runs)} for runs in ((pgd,), (pgd, quorum)))
    assert alone - beside == {"longer", "swap"}
    assert {i.name for i in items(2, pgd, swap)} == beside
    # At the budget where it ran, and there alone.
    ample = np.full(N, 10**7)
    both = items(2, make(eps=0.1, forwards=ample), make("quorum", eps=0.1), make(eps=0.2), trust="full")
    assert {i.cell.eps for i in both if i.name == "longer"} == {i.cell.eps for i in both if i.name == "swap"} == {0.2}
    assert {i.cell.eps for i in both if i.name == "gradient-free"} == {0.1, 0.2}


# --- steps that settle


def test_attacks_whose_steps_fall_to_nothing_are_not_asked_whether_they_settled():
    assert [name for name in attack.names() if settles(name)] == ["mora", "quorum", "recombine"]
    assert not settles("foolbox:quorum")
    for name in ("mora", "quorum"):
        run = make(name, first=100, speed=1)
        assert "optimisation-finished" not in outcome(about(run, outsider="apgd-t"))[1]
        assert "optimisation-finished" not in outcome(about(None, make(first=100, speed=1), run))[1]
    assert "optimisation-finished" in failed(about(make(first=100, speed=1)))
    cut = make("fab", first=100, speed=1)  # it climbs no loss, at a budget no more than without
    for evidence in (about(cut), about(None, make(first=100, speed=20), cut)):
        assert "optimisation-finished" not in failed(evidence)
    assert "silent-success" not in outcome(about(cut))[1]


# --- the worst case beside its runs


def known(*runs: Scored, then: Sequence[Scored] = (), **facts) -> Known:
    """Everything that is known of an ensemble of two members, at hand."""
    follow_ups = [
        (FollowUp("e", s.eps, s.run.cell.norm, s.run.cell.attack, ("tried-by-others",)), s) for s in then
    ]  # fmt: skip
    return Known(record("e"), 2, (1, 2, 3), list(runs), follow_ups, [], **facts)


def numbers(given: Known) -> dict[float, float]:
    return {eps: float(given.worst(norm, eps).standing.mean()) for norm, eps in given.budgets()}


def test_a_worst_case_never_rises_with_eps():
    """The run at 0.2 alone leaves more than the one at 0.1: what this broke is broken at 0.2 as well."""
    small, large = make(eps=0.1, broken=120), make(eps=0.2, first=100, broken=50)
    given = known(small, large)
    assert (small.standing.sum(), large.standing.sum()) == (80, 150)
    assert numbers(given) == {0.1: 80 / N, 0.2: 50 / N}  # 120 and, of those that are left, 30 more
    assert numbers(known(large)) == {0.2: 150 / N}
    other_norm = Scored(replace(small.run, cell=replace(small.run.cell, norm="l2")), 0.1)
    assert given.worst("linf", 0.2).standing.sum() == known(small, large, other_norm).worst("linf", 0.2).standing.sum()
    assert known(other_norm, large).worst("linf", 0.2).standing.sum() == 150
    assert about(large, small).standing.sum() == 150  # the number of a run is its own


def test_nor_does_it_after_what_followed():
    at_small, at_large = make("quorum", eps=0.1, broken=180), make("quorum", eps=0.2, broken=130)
    requested = [make(eps=0.1, broken=100), make(eps=0.2, broken=120)]
    assert numbers(known(*requested)) == {0.1: 100 / N, 0.2: 80 / N}
    assert numbers(known(*requested, then=[at_small])) == {0.1: 20 / N, 0.2: 20 / N}
    for then in ([at_small, at_large], [at_large, at_small]):
        given = known(*requested, then=then)
        assert numbers(given) == {0.1: 20 / N, 0.2: 20 / N}
        taken = path(given, "linf", 0.2)
        assert (taken["before"], taken["robust_accuracy"]) == (80 / N, 20 / N)
        assert [s["robust_accuracy"] for s in taken["path"]] == [20 / N]
    assert path(known(*requested, then=[at_small]), "linf", 0.2) is None
    # What followed at a larger budget says nothing of a smaller one.
    assert numbers(known(*requested, then=[at_large])) == {0.1: 100 / N, 0.2: 70 / N}


def test_a_worst_case_is_no_better_than_the_strongest_run_behind_it():
    given = known(make(first=100))
    worst = replace(given.worst("linf", 0.1), facts={"outsider": tried()})
    assert judge(worst)[0] == "trusted"
    verdict, checks = given.judged(worst)  # the run itself, of which no fact is known, is unchecked
    assert verdict == "unchecked"
    (own,) = [c for c in checks if c["name"] == "strongest-run"]
    assert (own["passed"], own["value"], own["threshold"]) == (False, 1.0, 0.0)
    assert own["advice"] == "the strongest run behind it, pgd (100 steps), is unchecked itself: see its checks"

    doubtful = known(make(first=100), make("mim", steps=60, first=50, broken=150, speed=1))
    verdict, checks = doubtful.judged(doubtful.worst("linf", 0.1))
    (own,) = [c for c in checks if c["name"] == "strongest-run"]
    assert judge(doubtful.worst("linf", 0.1))[0] == "unchecked"  # its longest run has settled
    assert (verdict, own["passed"]) == ("suspect", False)
    assert "mim (60 steps), is suspect itself" in own["advice"]


def test_of_equally_strong_runs_the_best_rated_vouches():
    settled, rising = make("mim", steps=100), make(steps=100, speed=1)
    for pair in ((settled, rising), (rising, settled)):
        given = known(*pair, make(steps=400, broken=0))
        verdict, checks = given.judged(given.worst("linf", 0.1))
        assert verdict == "unchecked"
        assert {c["name"] for c in checks if not c["passed"]} == {"tried-by-others"}
    twins = make(steps=100, speed=1, eot=2), make(steps=100)  # alike but for what their words do not say
    for pair in (twins, twins[::-1]):
        given = known(*pair, make(steps=400, broken=0))
        assert given.judged(given.worst("linf", 0.1))[0] == "unchecked"


def test_what_was_known_before_is_not_judged_by_what_followed():
    """A run that a stronger one overtook later was the best there was."""
    before, after = make(first=0), make("quorum", broken=180)
    taken = path(known(before, then=[after]), "linf", 0.1)
    assert taken["verdict_before"] == "unchecked"
    assert taken["before"] == 0.5


# --- the set-up


def test_doubts_of_the_set_up_are_said_whatever_the_attacks_found():
    doubts = ("class order: permuted (a test found 3 of 10)", "a clean accuracy of 0.100 is no better")
    verdict, checks = judge(about(RUN, doubts=doubts))
    assert verdict == "suspect"
    (advice,) = [c["advice"] for c in checks if not c["passed"]]
    assert advice == f"the set-up itself is in doubt: {doubts[0]}; {doubts[1]}"
    given = known(RUN, doubts=doubts)
    assert given.judged(given.worst("linf", 0.1))[0] == "suspect"
    assert judge(given.evidence(RUN))[0] == "suspect"


# --- with real models

MODEL = ensemble_of(slope(30.0), slope(20.0))
ONE = ensemble_of(slope(30.0))
SIDES = np.array([-0.3, -0.2, -0.11, -0.05, -0.02, 0.02, 0.05, 0.11, 0.2, 0.3] * 2)
SPLIT = labelled(MODEL, grey(*(0.5 + SIDES).tolist()))


def evaluated(folder: Path, *attacks: Spec, model=MODEL, split=SPLIT, **more) -> tuple[Study, Results]:
    study, store = study_of({"own": model}, split, *attacks, **more), Store(folder)
    done = run_evaluation(study, {"own": model}, split, store, SETTING, Reporter(), 0.0)
    return done, build(done, store)


def by_name(checks) -> dict[str, bool]:
    return {c["name"]: c["passed"] for c in checks}


def test_pgd_alone_is_challenged_by_mora_at_every_budget(tmp_path: Path):
    sweep = (0.01, 0.04, 0.1, 0.15, 0.25)
    done, results = evaluated(tmp_path, spec("pgd", steps=50), eps=sweep, trust="quick")
    store = Store(tmp_path)
    (own,) = done.ensembles
    known_of = Known.of(done, store, own)
    looked = {i.cell.eps: f.cell.attack.params["by"]["name"] for i, f in known_of.facts if i.name == "outsider"}
    assert looked == dict.fromkeys(sweep, "mora")
    assert len({i.cell.eps for i, _ in known_of.facts if i.name == "corners"}) <= 2
    assert {w["eps"]: w["verdict"] for w in results["worst_case"]} == dict.fromkeys(sweep, "trusted")
    for number in (*results["evaluations"], *results["worst_case"]):
        assert by_name(number["checks"])["holds-against-outsiders"]
        assert by_name(number["checks"])["tried-by-others"]


def test_a_single_model_is_challenged_by_apgd_t(tmp_path: Path):
    done, results = evaluated(tmp_path, spec("pgd", steps=50), model=ONE, trust="quick", reference=True)
    facts = Known.of(done, Store(tmp_path), done.ensembles[0]).facts
    assert [f.cell.attack.params["by"]["name"] for i, f in facts if i.name == "outsider"] == ["apgd-t"]
    assert [w["verdict"] for w in results["worst_case"]] == ["trusted"]


def test_an_attack_that_gives_up_is_found_out_by_one_of_another_family(tmp_path: Path):
    weak = spec("pgd", steps=12, step_size=1e-4, random_start=False)
    _, results = evaluated(tmp_path, weak, trust="quick")
    (worst,) = results["worst_case"]
    assert worst["verdict"] == "invalid"  # for its only run is: without a budget it breaks nothing either
    assert by_name(worst["checks"])["strongest-run"] is False
    assert by_name(worst["checks"])["holds-against-outsiders"] is False
    (row,) = results["evaluations"]
    assert by_name(row["checks"])["holds-against-outsiders"] is False


def test_models_no_better_than_one_answer_or_with_no_finite_answer_are_never_trusted(tmp_path: Path):
    one_sided = SPLIT.select(np.flatnonzero(SIDES > 0))
    _, results = evaluated(tmp_path / "one", spec("pgd", steps=50), split=one_sided)
    assert {n["verdict"] for n in (*results["evaluations"], *results["worst_case"])} == {"suspect"}
    (worst,) = results["worst_case"]
    (advice,) = [c["advice"] for c in worst["checks"] if c["name"] == "sound-set-up"]
    assert advice == (
        "the set-up itself is in doubt: a clean accuracy of 1.000 is no better than always one answer (1.000)"
    )
    _, results = evaluated(tmp_path / "both", spec("pgd", steps=50))
    assert {n["verdict"] for n in (*results["evaluations"], *results["worst_case"])} == {"trusted"}

    def holes(x):
        return slope(30.0)(x).masked_fill((x.mean((1, 2, 3)) > 0.75)[:, None], float("nan"))

    _, results = evaluated(tmp_path / "nan", spec("pgd", steps=50), model=ensemble_of(holes))
    (worst,) = results["worst_case"]
    assert worst["verdict"] in ("suspect", "invalid")
    (advice,) = [c["advice"] for c in worst["checks"] if c["name"] == "sound-set-up"]
    assert advice == "the set-up itself is in doubt: outputs that are not finite on clean images"


@pytest.mark.parametrize(("concern", "verdict"), [(True, "suspect"), (False, "trusted")])
def test_a_concern_of_an_audit_is_a_doubt_of_every_number_of_its_ensemble(tmp_path: Path, concern: bool, verdict: str):
    done, _ = evaluated(tmp_path, spec("pgd", steps=50))
    finding = {"what": "class order", "value": "permuted", "evidence": "3 of 10", "concern": concern}
    members = [
        {"ensemble": "own", "findings": [finding]},
        {"ensemble": "another", "findings": [{**finding, "concern": True}]},
    ]  # fmt: skip
    (own,) = done.ensembles
    asked = replace(done, suite_requests={"audit": {"members": members}})
    given = Known.of(asked, Store(tmp_path), own)
    (run,) = given.runs
    assert judge(given.evidence(run))[0] == verdict
    assert given.judged(given.worst("linf", 0.1))[0] == verdict
    assert given.doubts == (("class order: permuted (3 of 10)",) if concern else ())

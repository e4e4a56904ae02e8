"""The plan of the probes: what is looked at, on how many samples, under which keys; and what is stored of it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from trust_by_hand import SETTING, Scored, ensemble_of, grey, labelled, make, record, samples, slope, study_of

from robustkit import api
from robustkit.attacks import spec
from robustkit.base.progress import Reporter
from robustkit.pipeline.results import build
from robustkit.pipeline.run import run_evaluation
from robustkit.records.cells import Cell, DatasetRecord, Facts, Run, Spec
from robustkit.records.samples import ERROR
from robustkit.records.store import Store
from robustkit.study.plan import FollowUp, Study
from robustkit.trust import _run, probe
from robustkit.trust._plan import FEWEST, MOST, Item, attack_key, facts_for, load, plan, requested_runs

LARGE = 400
AMPLE = 10**6  # passes of the attacks on a sample that pay for every probe
PER_ENSEMBLE = {"forward", "gradient", "outputs", "repeats", "saturation"}
PER_BUDGET = {"corners", "gradient-free", "longer", "stability", "swap"}  # and from-others, other-starts
DECIDES = {"outsider"}  # at every budget, whatever it costs, on as many samples as it takes to tell
TELLING = 236
PER_ATTACK = {"planted", "unbounded"}


def study(trust: str = "quick", ensembles: int = 1, members: int = 2, **more: Any) -> Study:
    records = tuple(record(f"e{i}", members, f"adp-{i}") for i in range(ensembles))
    data = DatasetRecord("digits", "test", LARGE, ("a", "b"), "dd", (1, 2, 3))
    given = {"suites": ("attacks",), "reference": False, **more}
    return Study(records, data, (Spec("attack", "pgd", {"steps": 10}),), (0.1,), "linf", 0.1, trust=trust, **given)


def large(scored: Scored, passes: float = 0, broken: int = 0, **changes: Any) -> Scored:
    """The run on 400 samples, the first of which are broken; each sample costs so many passes forwards."""
    forwards = np.full(LARGE, int(passes))
    own = samples(np.arange(broken), LARGE, members=2, forwards=forwards, **changes)
    return Scored(replace(scored.run, samples=own), scored.eps)


def clean(wrong: int = 0, **more: Any) -> Run:
    return Run(Cell("clean", "e0", "dd"), samples(np.arange(wrong), LARGE, **more))


def items(given: Study, *runs: Scored, of: Run | None = None) -> list[Item]:
    return plan(given, given.ensembles[0], of or clean(), list(runs))


def names(found: list[Item]) -> Counter[str]:
    return Counter(item.name for item in found)


RUN = large(make(steps=10))


def test_every_probe_is_of_a_kind_that_the_plan_knows():
    assert set(probe.names()) == PER_ENSEMBLE | PER_BUDGET | PER_ATTACK | DECIDES | {"from-others", "other-starts"}


def test_no_probe_without_trust_or_without_runs():
    assert not items(study("off"), RUN)
    assert not items(study())


def test_quick_probes_the_two_budgets_of_each_norm_whose_worst_case_is_nearest_to_a_half():
    share = {0.1: 0.05, 0.2: 0.3, 0.3: 0.55, 0.4: 0.9}  # broken
    runs = [large(make(steps=10, eps=eps), AMPLE, round(part * LARGE)) for eps, part in share.items()]
    assert [i.cell.eps for i in items(study(), *runs) if i.name == "corners"] == [0.2, 0.3]
    assert [i.cell.eps for i in items(study("full"), *runs) if i.name == "corners"] == [0.1, 0.2, 0.3, 0.4]
    l2 = large(make(steps=10, eps=2.0, norm="l2"), broken=LARGE)
    found = {(i.cell.norm, i.cell.eps) for i in items(study(), *runs, l2) if i.name == "corners"}
    assert found == {("linf", 0.2), ("linf", 0.3), ("l2", 2.0)}
    # The worst case over both attacks counts: at 0.3 nothing stands any more.
    strong = large(make("mim", steps=10, eps=0.3), broken=LARGE)
    assert [i.cell.eps for i in items(study(), *runs, strong) if i.name == "corners"] == [0.2, 0.4]


@pytest.mark.parametrize(("level", "dear"), [("quick", 200), ("full", 1000)])
def test_what_the_attacks_do_not_pay_for_is_left_out_the_least_telling_budget_first(level: str, dear: int):
    """Fewer samples first, then fewer budgets, and never less than the fewest samples at one."""
    telling = (0.3, 0.2, 0.1, 0.4)  # by how near to a half the worst case is
    share = {0.1: 0.05, 0.2: 0.3, 0.3: 0.55, 0.4: 0.99}

    def probed(passes: int) -> tuple[set[float | None], int]:
        runs = [large(make(steps=10, eps=eps), passes, round(part * LARGE)) for eps, part in share.items()]
        found = items(study(level), *runs)
        return {i.cell.eps for i in found if i.name == "corners"}, len(found[0].rows)

    seen = [probed(passes) for passes in (0, 10, dear, AMPLE)]
    assert seen[0] == seen[1] == ({0.3}, FEWEST[level])
    assert all(budgets == set(telling[: len(budgets)]) for budgets, _ in seen)
    assert all(FEWEST[level] <= n <= MOST for _, n in seen)
    assert len(seen[-1][0]) == {"quick": 2, "full": 4}[level]
    assert len(seen[2][0]) < len(seen[-1][0])
    assert seen[2][1] > FEWEST[level]


def test_one_item_for_each_ensemble_budget_and_attack():
    once = dict.fromkeys(PER_ENSEMBLE | PER_BUDGET | PER_ATTACK | DECIDES, 1)
    assert names(items(study(), RUN)) == once
    three = [large(make(steps=10, eps=e), AMPLE) for e in (0.1, 0.2, 0.3)]
    mim = large(make("mim", steps=10, eps=0.3))
    found = items(study("full"), *three, mim)
    assert names(found) == {**once, **dict.fromkeys(PER_BUDGET | DECIDES, 3), **dict.fromkeys(PER_ATTACK, 2)}
    assert [i.cell.eps for i in found if i.name == "longer"] == [0.1, 0.2, 0.3]
    assert sorted((i.cell.attack.params["attack"]["name"], i.cell.eps) for i in found if i.name == "planted") == [
        ("mim", 0.3), ("pgd", 0.2),  # the middle one of its budgets
    ]  # fmt: skip
    assert all(i.cell.eps is None and i.cell.norm == "" for i in found if i.name in PER_ENSEMBLE)


def test_votes_are_attacked_from_other_starts_where_the_members_were():
    quorum = large(make("quorum", steps=24, params={"restarts": 8}))

    def probed(fusion: str, *runs: Scored) -> set[str]:
        asked = study()
        return names(items(replace(asked, ensembles=(replace(asked.ensembles[0], fusion=fusion),)), *runs)).keys()

    assert all("other-starts" in probed(rule, large(RUN), quorum) for rule in ("majority", "median", "crossmax"))
    assert not any("other-starts" in probed(rule, large(RUN), quorum) for rule in ("mean-prob", "mean-logit", "random"))
    assert "other-starts" not in probed("median", large(RUN))  # fusion-swap and longer look there
    asked = replace(study(), ensembles=(replace(study().ensembles[0], fusion="median"),))
    (one,) = [i for i in items(asked, large(RUN, broken=20), quorum) if i.name == "other-starts"]
    assert one.rows.sum() == TELLING - 20


def test_attacks_that_walk_are_the_ones_that_must_find_a_planted_example():
    runs = [
        large(make("fgsm", steps=None)), large(make("square", steps=None, params={"queries": 100})),
        large(make("fmn", eps=None, at=0.1)), large(make(steps=1)),
    ]  # fmt: skip
    found = [i.cell.attack.params["attack"]["name"] for i in items(study(), *runs) if i.name in PER_ATTACK]
    assert found == ["square", "square"]


def test_a_budget_that_allows_any_image_has_no_probe_of_its_own():
    diameter = 6**0.5  # of images of 1x2x3
    cw = large(make("cw", eps=None, steps=10, norm="l2", at=diameter), AMPLE)
    assert set(names(items(study(), cw))) == PER_ENSEMBLE
    assert {i.cell.norm for i in items(study(), RUN, cw) if i.name in PER_BUDGET} == {"linf"}
    near = large(make("cw", eps=None, steps=10, norm="l2", at=0.99 * diameter), AMPLE)
    assert set(names(items(study(), near))) == PER_ENSEMBLE | PER_BUDGET | DECIDES


def test_targeted_runs_and_other_norms_and_eps_zero_need_no_probe_of_their_own():
    runs = [
        large(make(steps=10, target="random")), large(make(steps=10, eps=1.0, norm="l1")),
        large(make(steps=10, eps=0.0)),
    ]  # fmt: skip
    assert set(names(items(study(), *runs))) == PER_ENSEMBLE
    l2 = large(make(steps=10, eps=1.0, norm="l2"))
    assert {(i.cell.norm, i.cell.eps) for i in items(study(), RUN, l2) if i.name == "corners"} == {
        ("linf", 0.1), ("l2", 1.0),
    }  # fmt: skip


def test_transfer_needs_another_ensemble_and_the_swap_a_second_member():
    assert "from-others" not in names(items(study(ensembles=1), RUN))
    three = study(ensembles=3)
    (one,) = [i for i in items(three, RUN) if i.name == "from-others"]
    assert one.cell.attack.params["others"] == ["e1", "e2"]
    assert "swap" not in names(items(study(members=1), RUN))


@pytest.mark.parametrize(("level", "share"), [("quick", 0.05), ("full", 0.2)])
def test_all_probes_together_cost_their_share(level: str, share: float):
    """Forward passes for a sample that is looked at, a backward pass counting as two, written out here once more."""
    settings = {"quick": (10, 100, 10, 100, 100, 20, 1), "full": (100, 1000, 40, 1000, 200, 20, 3)}[level]
    noise, corners, swap, queries, heads, longer, restarts = settings
    own = (
        1 + 1 + 5 + 3 * 1  # outputs, saturation, repeats, and forward and backward for the gradient
        + noise + corners + queries
        + 3 * swap * (2 + 3) + 3 * longer * restarts
        + heads + 3 * 10 + 0.1 * 3 * 10  # an unbounded attack ends early
    )  # fmt: skip
    planted = 3 * 10 + heads
    paid = 150 * own  # in forwards: enough for 150 samples at full price, but planted looks at 16 at most
    run = large(make(steps=10), passes=paid / LARGE / share)
    mean = own - planted * (1 - 16 / LARGE)  # of a random sample
    expected = int(share * run.run.samples.forwards.sum() / mean)
    found = [item for item in items(study(level), run) if item.name not in DECIDES]
    assert FEWEST[level] < expected < MOST
    assert {i.cell.attack.params["n"] for i in found} == {len(i.rows) for i in found} == {expected}


@pytest.mark.parametrize(("passes", "n"), [(0, FEWEST["quick"]), (10**7, MOST)])
def test_never_fewer_than_32_nor_more_than_256(passes: int, n: int):
    found = items(study(), large(make(steps=10), passes=passes))
    assert {len(i.rows) for i in found if i.name not in DECIDES} == {n}
    assert {len(i.rows) for i in found if i.name in DECIDES} == {TELLING}  # which is paid by nobody


def test_no_more_samples_than_there_are():
    few = Scored(replace(RUN.run, samples=samples([], 20, members=2)), 0.1)
    cleaned = Run(Cell("clean", "e0", "dd"), samples([], 20))
    assert {len(i.rows) for i in items(study(), few, of=cleaned)} == {20}


def test_backward_passes_and_every_run_are_paid_once():
    forward, both = (large(make(steps=10), 1000, backwards=np.full(LARGE, count)) for count in (0, 1000))
    n = [len(items(study(), run)[0].rows) for run in (forward, both)]
    assert n[1] == pytest.approx(3 * n[0], abs=3)
    # A minimum-norm run is scored at three budgets and was paid once, whatever three times the probes cost.
    cw = large(make("fmn", eps=None, at=0.1, steps=10), passes=2000)
    thrice = [replace(cw, eps=e) for e in (0.1, 0.2, 0.3)]
    assert len(items(study(), cw)[0].rows) > len(items(study(), *thrice)[0].rows)


def test_rows_are_those_that_stand_are_right_or_all():
    half = large(make(steps=10), broken=100)
    status = np.where(np.arange(LARGE) == 199, ERROR, 0)
    rows = {i.name: i.rows for i in items(study(), large(half, passes=10**7, broken=100), of=clean(50, status=status))}
    assert all(rows[name].all() for name in (*PER_ENSEMBLE, "stability"))
    assert all(np.flatnonzero(rows[name]).tolist() == [*range(100, 199), *range(200, 256)]
               for name in ("longer", "swap", "corners", "gradient-free"))  # fmt: skip
    assert np.flatnonzero(rows["unbounded"]).tolist() == list(range(50, 256))
    assert np.flatnonzero(rows["planted"]).tolist() == list(range(50, 66))


def test_what_any_run_of_the_budget_broke_is_not_looked_at_again():
    other = large(make("mim", steps=10), passes=10**7)
    own = large(make(steps=10), broken=20)
    elsewhere = large(make(steps=10, eps=0.2), broken=200)
    rows = {(i.name, i.cell.eps): i.rows for i in items(study(), own, other, elsewhere)}
    assert rows["longer", 0.1].sum() == MOST - 20
    assert rows["longer", 0.2].sum() == MOST - 200


@pytest.mark.parametrize(("steps", "expected"), [((10,), 20), ((1,), 20), ((2,), 20), ((10, 100), 200), ((15,), 30)])
def test_a_longer_attack_takes_twice_the_steps_of_the_longest_run(steps: tuple[int, ...], expected: int):
    runs = [large(make(name, steps=s)) for s, name in zip(steps, ("pgd", "mim"), strict=False)]
    (one,) = [i for i in items(study(), *runs) if i.name == "longer"]
    assert one.cell.attack.params["steps"] == expected


# --- keys


def keys(found: list[Item]) -> dict[str, str]:
    return {i.name: i.cell.key for i in found}


def test_keys_change_with_what_a_probe_follows_on():
    before, after = keys(items(study(), RUN)), keys(items(study(), RUN, large(make("mim", steps=10))))
    assert {name for name in before if before[name] == after[name]} == PER_ENSEMBLE
    assert keys(items(study(), large(make(steps=10), broken=7))) == before  # who is broken follows from the run's key


@pytest.mark.parametrize("change", [{"seed": 1}, {"version": "2"}, {"eot": 2}, {"trust": "full"}])
def test_keys_change_with_the_question(change: dict):
    before, after = keys(items(study(), RUN)), keys(items(replace(study(), **change), RUN))
    differ = {name for name in before if before[name] != after[name]}
    # Of another level: other settings, or another number of samples; but what decides is the same at every level.
    assert differ == set(before) - (DECIDES if "trust" in change else set())


def test_keys_of_all_probes_differ_from_each_other_and_from_runs():
    found = items(study(ensembles=2), RUN, large(make("mim", steps=10)), large(make(steps=10, eps=0.2)))
    assert len({i.cell.key for i in found}) == len(found)
    assert all(i.cell.kind == "probe" for i in found)


def test_attacks_are_the_same_but_for_their_budget():
    a, b = (spec("pgd", step_size=s).to_json() for s in (None, 0.01))
    assert attack_key(a) == attack_key(b)
    assert attack_key(a) != attack_key(spec("pgd", steps=11).to_json())
    assert attack_key(a) != attack_key(spec("mim").to_json())
    assert attack_key(None) == ""


# --- which facts are about which number


def test_a_number_is_given_only_its_own_facts():
    runs = [large(make(steps=10, eps=e), AMPLE) for e in (0.1, 0.2)] + [large(make("mim", steps=20, eps=0.1))]
    found = items(study(), *runs)
    facts = [(i, Facts(i.cell, {"rows": i.rows, "at": i.rows * (i.cell.eps or 0.0)})) for i in found]

    def shown(norm: str, eps: float, run: Scored | None) -> dict[str, float]:
        return {name: probed.mean("at") for name, probed in facts_for(facts, norm, eps, run).items()}

    pgd, mim = shown("linf", 0.2, runs[1]), shown("linf", 0.1, runs[2])
    assert set(pgd) == set(mim) == PER_ENSEMBLE | PER_BUDGET | PER_ATTACK | DECIDES
    assert [pgd[name] for name in PER_BUDGET] == pytest.approx([0.2] * 5)
    assert [mim[name] for name in PER_BUDGET] == pytest.approx([0.1] * 5)
    own = facts_for(facts, "linf", 0.1, runs[2])["planted"].params["attack"]
    assert (own["name"], own["params"]["steps"]) == ("mim", 20)
    assert set(shown("linf", 0.1, None)) == PER_ENSEMBLE | PER_BUDGET | DECIDES  # the worst case is by no attack
    assert set(shown("linf", 0.3, runs[1])) == PER_ENSEMBLE | PER_ATTACK
    assert set(shown("l2", 0.1, None)) == PER_ENSEMBLE
    fmn = make("fmn", eps=None, at=0.1, steps=10)
    assert set(shown("linf", 0.1, fmn)) == PER_ENSEMBLE | PER_BUDGET | DECIDES


# --- the store, with real models

TRIED = (spec("pgd", steps=12), spec("mim", steps=12))


@pytest.fixture
def two():
    """Two ensembles, and images up to 0.2 from their boundary."""
    return {"one": ensemble_of(slope(30.0), slope(20.0)), "two": ensemble_of(slope(10.0), slope(5.0))}


@pytest.fixture
def split(two):
    return labelled(two["one"], grey(*np.linspace(0.31, 0.7, 40).tolist()))


def carried(two, split, folder: Path, **more: Any) -> tuple[Study, Store]:
    store = Store(folder)
    asked_for = study_of(two, split, *TRIED, **more)
    return run_evaluation(asked_for, two, split, store, SETTING, Reporter()), store


def every_item(done: Study, store: Store) -> list[Item]:
    return [
        item for r in done.ensembles for item in plan(done, r, store.get(done.clean(r)), requested_runs(done, store, r))
    ]  # fmt: skip


def test_facts_come_back_as_they_were_written(tmp_path: Path):
    store = Store(tmp_path)
    item = items(study(), RUN)[0]
    arrays = {"rows": item.rows, "value": np.linspace(0, 1, len(item.rows)), "flag": item.rows}
    assert store.load_facts(item.cell) is None
    store.save_facts(Facts(item.cell, arrays, 1.5))
    found = store.load_facts(item.cell)
    assert (found.cell, found.seconds) == (item.cell, 1.5)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)
        assert found.arrays[name].dtype == array.dtype
    assert store.load_facts(replace(item.cell, after="x")) is None
    assert [i.name for i, _ in load(store, items(study(), RUN))] == [item.name]
    assert list(store) == []  # facts are no run


@pytest.mark.parametrize("suffix", ["json", "npz"])
@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:-9] + b"x" + b[-8:]])
def test_damaged_facts_are_not_there(tmp_path: Path, suffix: str, damage):
    store = Store(tmp_path)
    item = items(study(), RUN)[0]
    store.save_facts(Facts(item.cell, {"rows": item.rows}, 0.0))
    path = tmp_path / f"{item.cell.key}.{suffix}"
    path.write_bytes(damage(path.read_bytes()))
    assert store.load_facts(item.cell) is None
    assert load(store, [item]) == []


def test_an_evaluation_leaves_facts_of_every_probe_and_the_report_makes_no_pass(
    two, split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    done, store = carried(two, split, tmp_path / "runs")
    found = every_item(done, store)
    assert {i.name for i in found} == set(probe.names()) - {"other-starts"}  # of a vote alone
    assert len(load(store, found)) == len(found)
    results = build(done, store)
    assert any(c["name"] == "white-box-beats-black-box" for e in results["evaluations"] for c in e["checks"])
    api.report(tmp_path, formats=())
    before = (tmp_path / "results.json").read_bytes()
    monkeypatch.setattr(_run, "probed", lambda *_, **__: pytest.fail("probed again"))
    monkeypatch.setattr("robustkit.evaluation.pieces.run_cell", lambda *_: pytest.fail("attacked again"))
    api.report(tmp_path, formats=())
    assert (tmp_path / "results.json").read_bytes() == before
    carried(two, split, tmp_path / "runs")  # nor does a second evaluation


def test_no_probe_runs_with_trust_off_or_without_attacks(two, split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_run, "probed", lambda *_, **__: pytest.fail("probed"))
    done, store = carried(two, split, tmp_path, trust="off")
    results = build(done, store)
    assert {c["name"] for e in results["evaluations"] for c in e["checks"]} == {
        "completed", "within-budget", "optimisation-finished", "silent-success", "no-stronger-attack", "sound-set-up",
        "tried-by-others",
    }  # fmt: skip
    # Nobody looked, so that nothing is trusted, whatever the stored checks say.
    numbers = [*results["evaluations"], *results["worst_case"]]
    assert {n["verdict"] for n in numbers} <= {"unchecked", "suspect", "invalid"}
    assert all("tried-by-others" in {c["name"] for c in n["checks"] if not c["passed"]} for n in numbers)


def noted(_: Any, item: Item, **__: Any) -> Facts:
    """Stand for a probe that takes no time."""
    return Facts(item.cell, {"rows": item.rows})


class Killed(BaseException):
    """Stands for a kill: nothing of ours catches it."""


def test_killed_probes_are_not_run_twice(two, split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls = []

    def counted(worker, item, **_):
        if len(calls) == 7:
            raise Killed
        calls.append(item.cell.key)
        return noted(worker, item)

    monkeypatch.setattr(_run, "probed", counted)
    with pytest.raises(Killed):
        carried(two, split, tmp_path)
    assert len(calls) == 7
    monkeypatch.setattr(_run, "probed", lambda _, item, **__: (calls.append(item.cell.key), noted(_, item))[1])
    done, store = carried(two, split, tmp_path)
    wanted = sorted(i.cell.key for i in every_item(done, store))
    assert sorted(calls) == wanted
    whole = build(*carried(two, split, tmp_path / "whole"))
    assert build(done, store)["worst_case"] == whole["worst_case"]


def test_one_damaged_file_is_the_only_one_that_is_probed_again(
    two, split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    calls: list[Cell] = []
    monkeypatch.setattr(_run, "probed", noted)
    done, store = carried(two, split, tmp_path)
    victim = every_item(done, store)[5].cell
    (tmp_path / f"{victim.key}.npz").write_bytes(b"")
    monkeypatch.setattr(_run, "probed", lambda _, item, **__: (calls.append(item.cell), noted(_, item))[1])
    carried(two, split, tmp_path)
    assert calls == [victim]


def test_a_level_of_its_own_facts(two, split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Full beside quick in one store: each reads its own."""
    monkeypatch.setattr(_run, "probed", noted)
    quick, store = carried(two, split, tmp_path)
    full, _ = carried(two, split, tmp_path, trust="full")
    for done in (quick, full):
        assert all(store.load_facts(item.cell) for item in every_item(done, store))
        assert done.trust == Study.from_json(done.to_json()).trust
    draws = {s.trust: {i.cell.attack.params["draws"] for i in every_item(s, store) if i.name == "corners"}
             for s in (quick, full)}  # fmt: skip
    assert draws == {"quick": {100}, "full": {1000}}


def test_a_study_remembers_what_followed():
    more = FollowUp("e0", 0.1, "linf", spec("pgd", steps=200), ("iterations-suffice",))
    given = replace(study("full", eot=3), follow_ups=(more,))
    assert Study.from_json(json.loads(json.dumps(given.to_json()))) == given
    ((back, cell),) = given.escalated(given.ensembles[0])
    assert (back, cell.eps, cell.norm, cell.name) == (more, 0.1, "linf", "pgd")


def test_a_jsma_that_stands_still_is_not_trusted(tmp_path: Path):
    """Of dark images whose label hangs on bright pixels, those at 0 are most salient: the ADP code moves none."""
    salient = torch.tensor([5.0, 1, 1, 1, 1, 1])
    model = ensemble_of(lambda x: x.flatten(1).unflatten(1, (2, 6)) @ salient)  # which half is the brighter one
    bright, dark = torch.tensor([0, 0.8, 0.8, 0.8, 0.8, 0.8]), torch.tensor([0, 0.4, 0.4, 0.4, 0.4, 0.4])
    x = torch.cat(
        [torch.cat(halves).view(1, 1, 3, 4).repeat(20, 1, 1, 1) for halves in ((bright, dark), (dark, bright))]
    )
    split, verdicts = labelled(model, x), {}
    for movable in ("below-one", "room"):
        jsma = spec("jsma", gamma=1.0, theta=0.2, aim="away", increase=False, movable=movable)
        asked_for, store = study_of({"own": model}, split, jsma), Store(tmp_path / movable)
        results = build(run_evaluation(asked_for, {"own": model}, split, store, SETTING, Reporter()), store)
        (row,) = results["evaluations"]
        verdicts[movable] = row["robust_accuracy"], row["verdict"], results["worst_case"][0]["verdict"]
        failing = [c["advice"] for c in row["checks"] if not c["passed"] and c["name"] != "tried-by-others"]
        assert [a.endswith("run --set jsma.movable=room") for a in failing] == [True] * (movable == "below-one")
    assert verdicts == {"below-one": (1.0, "suspect", "suspect"), "room": (0.0, "trusted", "trusted")}

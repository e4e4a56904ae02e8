"""What follows on a suspect number: which attacks, in which order, until when; and how that is told."""

from __future__ import annotations

import io
import json
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from trust_by_hand import SETTING, Net, ensemble_of, grey, labelled, slope, study_of

from robustkit import api
from robustkit.__main__ import main
from robustkit.attacks import spec
from robustkit.base.errors import UserError
from robustkit.base.names import ESCALATION
from robustkit.base.progress import Reporter
from robustkit.data import Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.evaluation import pieces
from robustkit.pipeline.results import build
from robustkit.pipeline.run import ROUNDS, run_evaluation
from robustkit.records.cells import Spec
from robustkit.records.schema import Results
from robustkit.records.store import Store
from robustkit.study.plan import FollowUp, Study
from robustkit.trust._escalate import NEXT, last_resorts
from robustkit.trust.outsider import ladder

EPS = 0.1
SHAPE = (1, 8, 8)
# From the boundary, on either side: one sample that two short steps break, eight that only a walk to the very edge
# breaks, and eleven that nothing breaks. Noise and Square Attack do not come that close to the corner of 64 dimensions.
DISTANCES = np.array([*np.linspace(0.102, 0.3, 11)[::-1], 0.012, *np.linspace(0.0965, 0.0985, 8)])
BOTH_SIDES = np.concatenate([DISTANCES, -DISTANCES])
N, EASY, BREAKABLE = 40, 2, 18
SHORT = spec("pgd", steps=2, step_size=0.01, random_start=False)  # reaches 0.02 of 0.1
LONG = spec("pgd", steps=50)
# quorum breaks more than two short steps; what comes next does not
FOLLOW = [("quorum", 24), ("apgd-t", 50), ("recombine", 6), ("recombine", 6)]


def classifier(scale: float = 30.0, offset: float = 0.0) -> Net:
    return slope(scale, offset, classes=4)


@pytest.fixture
def model() -> Ensemble:
    return ensemble_of(classifier())


@pytest.fixture
def split(model: Ensemble) -> Split:
    return labelled(model, grey(*(0.5 + BOTH_SIDES).tolist(), shape=SHAPE))


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    cheapened(monkeypatch)


def cheapened(patch: pytest.MonkeyPatch) -> None:
    """Attack with less: a straight boundary needs no sixteen restarts or 5,000 queries."""
    enough = {
        "square": {"queries": 300}, "quorum": {"restarts": 2}, "mora": {"restarts": 1}, "apgd-t": {"restarts": 1},
        "recombine": {"population": 2, "generations": 1},
    }  # fmt: skip
    real = pieces.run_cell

    def cheaper(cell, *rest, **more):
        if cell.name in enough:
            few = Spec("attack", cell.name, {**cell.attack.params, **enough[cell.name]})
            return replace(real(replace(cell, attack=few), *rest, **more), cell=cell)
        return real(cell, *rest, **more)

    patch.setattr(pieces, "run_cell", cheaper)


def run(
    model: Ensemble | dict[str, Ensemble], split: Split, folder: Path, *attacks: Spec, escalate: float = ESCALATION,
    reporter: Reporter | None = None, **more: Any,
) -> tuple[Study, Results]:  # fmt: skip
    ensembles = model if isinstance(model, dict) else {"own": model}
    store, study = Store(folder), study_of(ensembles, split, *attacks, **more)
    done = run_evaluation(study, ensembles, split, store, SETTING, reporter or Reporter(), escalate)
    return done, build(done, store)


class Heard(Reporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


@dataclass(frozen=True)
class Escalated:
    """The escalation of the short attack: where it is stored (who writes there copies it), what it gave and said."""

    folder: Path
    done: Study
    results: Results
    said: list[str]


@pytest.fixture(scope="module")
def escalated(tmp_path_factory: pytest.TempPathFactory) -> Escalated:
    folder, own, heard = tmp_path_factory.mktemp("escalated") / "runs", ensemble_of(classifier()), Heard()
    split = labelled(own, grey(*(0.5 + BOTH_SIDES).tolist(), shape=SHAPE))
    with pytest.MonkeyPatch.context() as patch:
        cheapened(patch)
        return Escalated(folder, *run(own, split, folder, SHORT, reporter=heard), heard.said)


def followed(done: Study) -> list[tuple[str, int | None]]:
    return [(f.attack.name, f.attack.params.get("steps")) for f in done.follow_ups]


def test_a_short_attack_is_suspect_and_escalation_gives_the_lower_number(model, split, escalated, tmp_path: Path):
    _, before = run(model, split, tmp_path / "plain", SHORT, escalate=0.0)
    (worst,) = before["worst_case"]
    # Two steps of eps / 10 reach nothing without a budget either: the only run is invalid, and so is what rests on it.
    assert (worst["verdict"], worst["robust_accuracy"]) == ("invalid", (N - EASY) / N)
    doubts = ["holds-against-outsiders", "iterations-suffice", "strongest-run"]
    assert [c["name"] for c in worst["checks"] if not c["passed"]] == doubts
    assert before["escalation"] == []

    done, after = escalated.done, escalated.results
    (worst,) = after["worst_case"]
    assert (worst["verdict"], worst["robust_accuracy"]) == ("trusted", (N - BREAKABLE) / N)
    (told,) = after["escalation"]
    assert (told["ensemble"], told["eps"], told["norm"]) == ("own", EPS, "linf")
    assert (told["before"], told["verdict_before"]) == ((N - EASY) / N, "invalid")
    assert (told["robust_accuracy"], told["verdict"], told["left"]) == ((N - BREAKABLE) / N, "trusted", [])
    # A run that is as strong and passes its own checks vouches for it; the outsider breaks nothing that it left.
    assert followed(done) == FOLLOW
    assert [(s["attack"], s["params"]["steps"], s["verdict"]) for s in told["path"]] == [
        (*follow, "trusted") for follow in FOLLOW
    ]
    assert [s["because"] for s in told["path"]] == [doubts, [NEXT], [NEXT], [NEXT]]
    assert [s["robust_accuracy"] for s in told["path"]] == [(N - BREAKABLE) / N] * 4
    assert all(s["seconds"] > 0 for s in told["path"])


def test_runs_that_followed_are_evaluations_like_any_other(escalated):
    results = escalated.results
    short, *more = results["evaluations"]
    assert [(e["params"]["steps"], e["robust_accuracy"], e["verdict"]) for e in more] == [
        (steps, (N - BREAKABLE) / N, "trusted") for _, steps in FOLLOW
    ]  # fmt: skip
    assert short["verdict"] == "invalid"  # two steps of eps / 10 reach nothing without a budget either
    (said,) = [c["advice"] for c in short["checks"] if c["name"] == "iterations-suffice"]
    assert said == "quorum (24 steps, 12 restarts) breaks more: quote the worst case"


def test_several_failing_checks_advise_several_attacks_each_once(tmp_path: Path):
    """Two members whose fusion hides them, and samples near enough for Square Attack."""

    def hide(z: Tensor) -> Tensor:
        return torch.log_softmax(z.mean(0), 1).detach() + 0 * z.sum(0)

    hidden = ensemble_of(classifier(), classifier(20.0), fusion=hide)
    near = np.linspace(0.03, 0.15, N // 2)
    split = labelled(hidden, grey(*(0.5 + near).tolist(), *(0.5 - near).tolist(), shape=SHAPE))
    done, results = run(hidden, split, tmp_path, LONG, escalate=1e-6)
    by_name = {f.attack.name: set(f.because) for f in done.follow_ups}
    assert len(done.follow_ups) == len(by_name)
    assert {"fusion-swap", "holds-against-outsiders", "white-box-beats-black-box"} <= by_name["quorum"]
    assert {"gradients-available", "white-box-beats-black-box"} <= by_name["square"]
    assert set(by_name) == {"quorum", "square"}
    (told,) = results["escalation"]
    assert [s["attack"] for s in told["path"]] == [f.attack.name for f in done.follow_ups]
    falling = [told["before"], *(s["robust_accuracy"] for s in told["path"])]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] == (near > EPS).mean()  # the groups of members find all there is


def test_the_strongest_follow_where_everything_is_trusted_too(model, split, tmp_path: Path):
    done, results = run(model, split, tmp_path, LONG)
    assert results["worst_case"][0]["verdict"] == "trusted"
    assert followed(done) == FOLLOW
    (told,) = results["escalation"]
    assert (told["before"], told["robust_accuracy"]) == ((N - BREAKABLE) / N,) * 2
    assert [step["because"] for step in told["path"]] == [[NEXT]] * 4


def test_of_an_ensemble_the_last_resort_follows_where_more_may_be_spent(split, tmp_path: Path):
    pair = ensemble_of(classifier(), classifier(20.0))
    done, _ = run(pair, split, tmp_path / "usual", LONG)
    assert [name for name, _ in followed(done)] == ["quorum", "mora"]
    done, results = run(pair, split, tmp_path / "more", LONG, escalate=2 * ESCALATION)
    assert [name for name, _ in followed(done)] == ["quorum", "mora", *["recombine"] * 4]
    assert [f.attack.params["generations"] for f in done.follow_ups[2:]] == [60, 80, 240, 480]
    assert results["worst_case"][0]["robust_accuracy"] == (N - BREAKABLE) / N


def test_nothing_follows_where_nothing_stands(model, split, tmp_path: Path):
    done, results = run(model, split, tmp_path, LONG, eps=(0.4,))
    assert results["worst_case"][0]["robust_accuracy"] == 0.0
    assert done.follow_ups == ()
    assert results["escalation"] == []


def test_each_budget_and_ensemble_is_escalated_as_far_as_it_asks(model, split, tmp_path: Path):
    here = [replace(a, params={**a.params, "eps": [e]}) for a, e in ((LONG, 0.01), (SHORT, EPS))]
    done, results = run(model, split, tmp_path / "budget", *here, eps=(0.01, EPS))
    assert [(f.eps, f.attack.name) for f in done.follow_ups] == [
        (eps, name) for name, _ in FOLLOW for eps in (0.01, EPS)
    ]
    assert {w["eps"]: (w["verdict"], w["robust_accuracy"]) for w in results["worst_case"]} == {
        0.01: ("trusted", 1.0), EPS: ("trusted", (N - BREAKABLE) / N),
    }  # fmt: skip
    assert [(t["eps"], len(t["path"])) for t in results["escalation"]] == [(0.01, 4), (EPS, 4)]

    blind = {"own": model, "blind": ensemble_of(lambda x: classifier()(x.detach()) + 0 * x.mean())}
    done, results = run(blind, split, tmp_path / "ensemble", LONG)
    assert [f.attack.name for f in done.follow_ups if f.ensemble == "own"] == [name for name, _ in FOLLOW]
    assert {f.attack.name for f in done.follow_ups if f.ensemble == "blind"} == {
        "quorum", "square", "apgd-t", "recombine",
    }  # fmt: skip
    assert {w["ensemble"]: w["verdict"] == "trusted" for w in results["worst_case"]} == {"own": True, "blind": False}


def test_a_second_evaluation_takes_everything_from_the_store(model, split, escalated, tmp_path: Path, monkeypatch):
    done, results = escalated.done, escalated.results
    shutil.copytree(escalated.folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(pieces, "run_cell", lambda *_, **__: pytest.fail("attacked again"))
    monkeypatch.setattr("robustkit.trust._run._piece", lambda *_: pytest.fail("probed again"))
    assert run(model, split, tmp_path, SHORT) == (done, results)
    # Without escalation the same folder gives what was asked for, and no more.
    plain, fewer = run(model, split, tmp_path, SHORT, escalate=0.0)
    assert plain.follow_ups == ()
    assert len(fewer["evaluations"]) == 1


def test_the_report_tells_the_path_from_the_store_alone(escalated, tmp_path: Path):
    results = escalated.results
    shutil.copytree(escalated.folder, tmp_path / "runs")
    found = api.report(tmp_path, formats=("csv",))
    assert json.loads((tmp_path / "results.json").read_text()) == found
    assert found.pop("samples")["rows"] == results["dataset"]["n"]  # the table beside the numbers
    assert found == results
    assert "iterations-suffice" in (tmp_path / "tables" / "escalation.csv").read_text()


class Killed(BaseException):
    """Stands for a kill: nothing of ours catches it."""


def test_killed_while_escalating_goes_on_where_it_was(model, split, escalated, tmp_path: Path, monkeypatch):
    whole, results = escalated.done, escalated.results
    real, made, alive = pieces.run_cell, [], [False]

    def dying(cell, *rest, **more):
        if cell.name == "quorum" and not alive[0]:  # of a round the attack of the most steps is run first
            raise Killed
        made.append(cell)
        return real(cell, *rest, **more)

    monkeypatch.setattr(pieces, "run_cell", dying)
    with pytest.raises(Killed):
        run(model, split, tmp_path / "killed", SHORT)
    made.clear()
    alive[0] = True
    resumed, same = run(model, split, tmp_path / "killed", SHORT)
    assert [cell.name for cell in made] == [name for name, _ in FOLLOW]
    assert resumed == whole
    assert same["worst_case"] == results["worst_case"]


def test_what_follows_comes_one_by_one_and_only_where_the_one_before_did_not_settle_it(
    split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Beside members the outsider is mora: where quorum finds nothing, it follows itself."""
    pair = ensemble_of(classifier(), classifier(20.0))
    whole, _ = run(pair, split, tmp_path / "able", SHORT)
    assert followed(whole) == [("quorum", 24), ("mora", 100)]
    assert [f.because for f in whole.follow_ups][1] == (NEXT,)

    real = pieces.run_cell
    monkeypatch.setattr(pieces, "run_cell", lambda cell, *rest, **more: replace(
        real(replace(cell, attack=SHORT) if cell.name == "quorum" else cell, *rest, **more), cell=cell
    ))  # fmt: skip
    done, results = run(pair, split, tmp_path / "unable", SHORT)
    (told,) = results["escalation"]
    assert followed(done) == [("quorum", 24), ("mora", 100)]
    assert [s["verdict"] for s in told["path"]] == ["suspect", "trusted"]
    left = [(N - EASY) / N, (N - BREAKABLE) / N]
    assert [s["robust_accuracy"] for s in told["path"]] == left
    assert (told["verdict"], told["left"]) == ("trusted", [])

    # One round is always run; after it, its passes exceed any small number.
    done, results = run(pair, split, tmp_path / "unable", SHORT, escalate=1e-6)
    assert followed(done) == [("quorum", 24)]
    (told,) = results["escalation"]
    assert (told["verdict"], told["robust_accuracy"]) == ("suspect", (N - EASY) / N)
    assert told["robust_accuracy"] == results["worst_case"][0]["robust_accuracy"]


@pytest.mark.parametrize("eot", [1, 2])
def test_what_cannot_be_settled_is_tried_once_and_says_what_is_left(tmp_path: Path, eot: int):
    """A gradient of zero: what is advised is run, and the number stays suspect."""
    blind = ensemble_of(lambda x: classifier()(x.detach()) + 0 * x.mean())
    split = labelled(blind, grey(0.53, 0.54, 0.3, 0.2, shape=SHAPE))
    done, results = run(blind, split, tmp_path, LONG, eot=eot)
    (told,) = results["escalation"]
    assert "square" in {s["attack"] for s in told["path"]}
    assert told["robust_accuracy"] == 2 / 4
    assert "gradients-available" in told["left"]
    assert told["verdict"] != "trusted"
    tried = [(f.attack.name, str(f.attack.params)) for f in done.follow_ups]
    assert len(set(tried)) == len(tried) < ROUNDS


def test_a_randomised_model_is_attacked_with_eot(tmp_path: Path):
    torch.manual_seed(0)
    noisy = ensemble_of(lambda x: classifier()(x + 0.02 * torch.randn(len(x), 1, 1, 1)))
    split = labelled(ensemble_of(classifier()), grey(*(0.5 + BOTH_SIDES).tolist(), shape=SHAPE))
    done, results = run(noisy, split, tmp_path, LONG, escalate=1e-6)
    (told,) = results["escalation"]
    assert told["verdict_before"] == "invalid"
    (averaged,) = [f for f in done.follow_ups if "deterministic" in f.because]
    assert (averaged.attack.name, averaged.attack.params["eot"]) == ("quorum", 20)
    assert "deterministic" not in told["left"]
    (cell,) = [c for f, c in done.escalated(done.ensembles[0]) if f == averaged]
    assert cell.eot == 20
    assert "eot" not in cell.attack.params


def test_who_watches_is_told_what_follows_and_why(escalated):
    assert [line for line in escalated.said if "escalating" in line] == [
        "escalating own at eps 0.1: quorum, 24 steps (holds-against-outsiders, iterations-suffice, strongest-run)",
        "escalating own at eps 0.1: apgd-t, 50 steps (next-strongest)",
        "escalating own at eps 0.1: recombine, 6 steps, 60 generations (next-strongest)",
        "escalating own at eps 0.1: recombine, 6 steps, 80 generations (next-strongest)",
    ]


def test_what_checks_advise_for_long_leaves_rounds_for_the_last_resorts(
    model, split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Six attacks follow where no check advises any; advice of one round after another comes before them."""
    advised = [spec("pgd", steps=2 + count) for count in range(6)]
    rest = [*advised, *ladder(2), *last_resorts(2, 2 * ESCALATION)]
    key = study_of({"own": model}, split, SHORT).ensembles[0].key

    def one(study, store, most):
        follow = rest[len(study.follow_ups) :][:1]
        return tuple(FollowUp(key, EPS, "linf", attack, (NEXT,)) for attack in follow)

    monkeypatch.setattr("robustkit.pipeline.run.next_round", one)
    done, _ = run(model, split, tmp_path, SHORT)
    assert [f.attack for f in done.follow_ups] == rest


# --- asking for it


def command(*arguments: str) -> tuple[int, str]:
    """Run the command line; return its exit code and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["robustkit", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
    return int(stop.value.code or 0), err.getvalue()


@pytest.mark.parametrize(("arguments", "said"), [
    (["--trust", "off", "--escalate"],
     "escalate needs the trust checks, but trust is 'off'; leave out --trust off."),
    (["--trust", "half"], "unknown trust 'half'"),
    (["--trust", "quik"], "unknown trust 'quik': did you mean 'quick'?"),
    (["--escalate", "--escalate-budget", "0"], "escalate budget 0.0 is out of range; it must be above 0."),
    (["--escalate", "--escalate-budget", "nan"], "--escalate-budget 'nan' is not a finite number"),
    (["--eot", "0"], "eot 0 is out of range; it must be at least 1."),
])  # fmt: skip
def test_what_makes_no_sense_is_refused_in_one_sentence(tmp_path: Path, arguments: list[str], said: str):
    code, error = command("evaluate", *arguments, "--out", str(tmp_path / "out"))
    assert code == 2
    assert said in " ".join(error.split())
    assert len(error.strip().splitlines()) <= 2
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_the_same_from_python(tmp_path: Path):
    with pytest.raises(UserError, match="escalate needs the trust checks"):
        api.evaluate(trust="off", escalate=True, out=tmp_path / "out")
    with pytest.raises(UserError, match="unknown trust 'half'"):
        api.evaluate(trust="half", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()

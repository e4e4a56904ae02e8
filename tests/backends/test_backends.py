"""Other libraries' attacks under our contract: same numbers as ours where they do the same, nothing left behind."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
import torch

import robustkit
from robustkit import attacks, backends
from robustkit.backends import EQUIVALENTS, find
from robustkit.base.errors import UserError
from robustkit.data import Dataset
from robustkit.ensembles.ensemble import Ensemble
from robustkit.evaluation.cell import RunOptions, run_cell
from robustkit.functional.sampling import SampleGenerator
from robustkit.functional.trace import Trace
from robustkit.pipeline import request
from robustkit.records.cells import Cell, Spec
from robustkit.records.samples import ERROR, Samples
from robustkit.study.config import EvaluateConfig

torchattacks = pytest.importorskip("torchattacks")
pytest.importorskip("foolbox")
LIBRARIES = sorted(EQUIVALENTS)


def run(ensemble: Ensemble, digits: Dataset, spec: Spec, eps: float | None = 0.1, n: int = 100, **more) -> Samples:
    split, run_options = digits.split("test").take(n), RunOptions(torch.device("cpu"), 50)
    clean = run_cell(Cell("clean", "e", "d"), ensemble, split, None, run_options).samples
    norm = attacks.norm_for(spec.name, "linf")
    return run_cell(Cell("attack", "e", "d", spec, eps, norm, **more), ensemble, split, clean, run_options).samples


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", ["fgsm", "bim", "pgd"])
def test_same_attack_same_robust_accuracy(trained: Ensemble, digits: Dataset, library: str, name: str):
    asked = request.check(EvaluateConfig(attacks=name, dataset="digits", backend=library))
    (spec,) = asked.attacks
    assert spec.name.startswith(f"{library}:")
    theirs = run(trained, digits, spec)
    ours = run(trained, digits, request.check(EvaluateConfig(attacks=name, dataset="digits")).attacks[0])
    accuracy = [(s.prediction == s.y).mean() for s in (theirs, ours)]
    assert abs(accuracy[0] - accuracy[1]) <= (
        0.09 if name == "pgd" else 0.02
    )  # pgd starts at random: two standard errors
    assert (theirs.status != ERROR).all()
    assert theirs.forwards.max() >= 1
    assert theirs.linf.max() <= 0.1 + 1e-6


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_equivalent_exists_with_these_parameters(library: str):
    for name in EQUIVALENTS[library]:
        asked = request.check(EvaluateConfig(attacks=name, dataset="digits", backend=library))
        entry = find(asked.attacks[0].name).entry
        assert set(asked.attacks[0].params) <= {p.name for p in entry.params}


def test_parameters_are_carried_over():
    def params(library: str, *settings: str) -> dict:
        asked = request.check(EvaluateConfig(attacks="pgd", dataset="digits", backend=library, settings=list(settings)))
        return dict(asked.attacks[0].params)

    default = params("torchattacks")
    assert (default["steps"], default["relative_step"]) == (10, 0.1)
    own = params("torchattacks", "pgd.steps=7", "pgd.step_size=0.03")
    assert (own["steps"], own["alpha"], own["relative_step"]) == (7, 0.03, None)
    assert (params("foolbox")["rel_stepsize"], params("foolbox")["steps"]) == (0.1, 10)
    assert params("foolbox", "pgd.step_size=0.03")["abs_stepsize"] == 0.03


@pytest.mark.parametrize(
    ("name", "settings", "eps"),
    [
        ("torchattacks:VMIFGSM", {"steps": 5, "alpha": 0.05}, 0.2),
        ("torchattacks:DeepFool", {"steps": 10, "overshoot": 0.05}, None),
        ("foolbox:L2DeepFoolAttack", {"steps": 20}, None),
        ("foolbox:L2FastGradientAttack", {}, 1.0),
    ],
)
def test_any_of_their_attacks_runs(trained: Ensemble, digits: Dataset, name: str, settings: dict, eps: float | None):
    given = [f"{name}.{key}={value}" for key, value in settings.items()]
    norm = "l2" if "L2Fast" in name else "linf"
    (spec,) = request.check(
        EvaluateConfig(attacks=name, dataset="digits", settings=given, norm=norm, eps="0.1")
    ).attacks
    assert {k: spec.params[k] for k in settings} == settings
    result = run(trained, digits, spec, eps, n=8)
    assert attacks.is_minimum(name) is (eps is None)
    assert (result.status != ERROR).all()
    assert (result.prediction == result.y).mean() < 0.8
    again = run(trained, digits, spec, eps, n=8)
    assert np.array_equal(result.prediction, again.prediction)


@pytest.mark.parametrize("name", ["torchattacks:PGD", "foolbox:LinfPGD"])
def test_targets_seeds_modes_and_counts(trained: Ensemble, test_images, name: str):
    x, y = test_images[0][:40], test_images[1][:40]
    target, trace = (y + 1) % 10, Trace(40)
    trained.train()
    trained.members[0].eval()
    torch_state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    try:
        attack = attacks.get(name)
        first = attack(
            trained, x, target, eps=0.4, targeted=True, generator=SampleGenerator(1, torch.arange(40)), trace=trace
        )
        second = attack(trained, x, target, eps=0.4, targeted=True, generator=SampleGenerator(1, torch.arange(40)))
        assert trained.training
        assert not trained.members[0].training
    finally:
        trained.eval()
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert torch.equal(first, second)
    assert (trace.forwards >= 10).all()
    assert (trace.backwards >= 10).all()
    reached = (trained(first).argmax(1) == target).float().mean()
    assert reached > (trained(x).argmax(1) == target).float().mean() + 0.2


def test_torchattacks_cw_sees_outputs_that_it_can_use(trained: Ensemble, digits: Dataset):
    """On log-probabilities alone it does nothing, and everything would look robust."""
    settings = ["torchattacks:CW.c=10", "torchattacks:CW.steps=60", "torchattacks:CW.lr=0.05"]
    asked = request.check(EvaluateConfig(attacks="torchattacks:CW", dataset="digits", settings=settings))
    result = run(trained, digits, asked.attacks[0], None, n=30)
    assert (result.prediction == result.y).mean() < 0.5


def test_names_that_do_not_exist():
    for name, message in (
        ("torchattacks:PGDX", "unknown attack of torchattacks 'PGDX': did you mean 'PGD"),
        ("foolbox:LinfPGDD", "unknown attack of foolbox 'LinfPGDD': did you mean 'LinfPGD'"),
        ("cleverhans:FGSM", "unknown backend 'cleverhans'"),
    ):
        with pytest.raises(UserError, match=message):
            attacks.get(name)
    with pytest.raises(UserError, match="backend 'foolbox' has no equivalent of 'mim'; it has: bim, cw"):
        request.check(EvaluateConfig(attacks="mim", dataset="digits", backend="foolbox"))
    with pytest.raises(UserError, match="unknown backend 'art'"):
        request.check(EvaluateConfig(attacks="mim", dataset="digits", backend="art"))


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, library: str):
    real = builtins.__import__

    def without(name: str, *arguments, **kwargs):
        if name == library:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return real(name, *arguments, **kwargs)

    backends.find.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        UserError, match=rf"needs the package '{library}', which is not installed; run .* install .*\[backends\]'"
    ):
        attacks.get(f"{library}:X")
    backends.find.cache_clear()


class Linear(torch.nn.Sequential):
    """A linear model of 1x4x4 images that is easy to fool, and that one attack leaves standing."""

    def __init__(self, classes: int) -> None:
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(16, classes))
        torch.nn.init.normal_(self[1].weight, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("classes", [2, 3, 4, 5, 9, 12])
def test_attacks_of_torchattacks_know_how_many_classes_there_are(classes: int):
    """Their default is ten: below they looked at outputs that are not there."""
    model, x = Linear(classes), torch.rand(12, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    y = model(x).argmax(1)
    targeted = attacks.get("torchattacks:APGDT")
    if classes < 4:
        for name in ("AutoAttack", "APGDT"):
            with pytest.raises(UserError, match=f"needs a model with at least 4 outputs, and this one has {classes}; "):
                attacks.get(f"torchattacks:{name}")(model, x, y, eps=0.02)
    else:
        made = targeted(model, x, y, eps=0.02, steps=5, generator=0)
        assert 0 < (model(made).argmax(1) == y).sum() < len(x)  # some stand against the last class, which crashed
    assert attacks.get("torchattacks:FAB")(model, x, y, generator=0).shape == x.shape
    jsma = attacks.get("torchattacks:JSMA")  # knows no other mode than aiming at a class: the next one
    assert torch.equal(jsma(model, x, y), jsma(model, x, (y + 1) % classes, targeted=True))
    with pytest.raises(UserError, match="at least 3 outputs, and this one has 2"):
        attacks.get("torchattacks:APGD")(Linear(2), x, y % 2, eps=0.1, loss="dlr")


def test_autoattack_of_torchattacks_below_ten_classes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torchattacks.Square, "forward", lambda self, images, labels: images)  # 5,000 queries
    model, x = Linear(5), torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    y = model(x).argmax(1)
    assert torch.equal(attacks.get("torchattacks:AutoAttack")(model, x, y, eps=0.0, generator=0), x)  # none is broken


def test_too_few_classes_for_an_attack_are_refused_before_the_run(tmp_path):
    x = torch.rand(30, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    y = model(x).argmax(1)
    with pytest.raises(UserError, match="attack 'torchattacks:AutoAttack' needs a model with at least 4 outputs"):
        robustkit.audit(model, (x, y), attacks="pgd,torchattacks:AutoAttack", out=tmp_path, formats=())
    assert not (tmp_path / "runs").exists()

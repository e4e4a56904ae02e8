"""Expectation over transformation: gradients by hand, a model that withstands one pass and not the mean, the run."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional

import robustkit
from robustkit import attacks
from robustkit.__main__ import main
from robustkit.attacks._ascent import value_and_gradient
from robustkit.base.progress import Reporter
from robustkit.data import Dataset
from robustkit.ensembles.ensemble import Ensemble
from robustkit.ensembles.fusion import mean_logit
from robustkit.evaluation.cell import RunOptions, run_cell
from robustkit.functional.batching import Batched
from robustkit.functional.eot import Averaged
from robustkit.functional.losses import LOSSES
from robustkit.functional.trace import Trace
from robustkit.records.cells import Cell, DatasetRecord, EnsembleRecord, Spec
from robustkit.study.plan import Study


class Draws(nn.Module):
    """Linear in x, with the next of three weight matrices in each pass."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.w = 5 * torch.randn((3, 12, classes), generator=generator, dtype=torch.float64)
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return x.flatten(1) @ self.w[(self.passes - 1) % 3]


@pytest.fixture
def seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def points(n: int = 6) -> tuple[Tensor, Tensor]:
    x = torch.rand((n, 1, 3, 4), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x, torch.arange(n) % 4


@pytest.mark.parametrize("loss", ["ce", "margin", "dlr"])
@pytest.mark.parametrize("rows", [6, 4, 1])
def test_gradient_is_the_mean_of_the_passes_gradients(loss: str, rows: int):
    x, y = points()
    model = Draws()
    log_p, values, gradients = [], [], []
    for w in model.w:
        point = x.clone().requires_grad_()
        z = point.flatten(1) @ w
        value = LOSSES[loss](z, y)
        gradients.append(torch.autograd.grad(value.sum(), point)[0])
        values.append(value.detach())
        log_p.append(functional.log_softmax(z.detach(), -1))
    z, value, gradient = value_and_gradient(Batched(Averaged(model, 3), rows), x, y, LOSSES[loss], backward=True)
    torch.testing.assert_close(z, sum(log_p) / 3)
    torch.testing.assert_close(value, sum(values) / 3)
    torch.testing.assert_close(gradient, sum(gradients) / 3)
    assert model.passes == 3 * -(-6 // rows)


def test_output_is_the_mean_log_probability_and_its_own_cross_entropy_is_another():
    x, y = points()
    model = Averaged(Draws(), 3)
    log_p = functional.log_softmax(torch.einsum("bi,kil->kbl", x.flatten(1), model.model.w), -1)
    torch.testing.assert_close(model(x), log_p.mean(0))
    torch.testing.assert_close(Batched(model, 2)(x), log_p.mean(0))
    mean_loss = -log_p.mean(0).gather(1, y[:, None]).squeeze(1)
    assert (functional.cross_entropy(model(x), y, reduction="none") < mean_loss - 0.01).all()  # it renormalises


class Flipping(nn.Module):
    """score = sum_k s_k w_k (x_k - 1/2) + bias, s_k = -1 for a quarter of the pixels, drawn anew in each pass.

    The mean score is half of w . (x - 1/2) + bias. One gradient has the right sign at three pixels of four, so that
    steps of sign lead half as far as those along the mean gradient.
    """

    def __init__(self, bias: float, pixels: int = 900) -> None:
        super().__init__()
        self.w = torch.randn((pixels,), generator=torch.Generator().manual_seed(2)).sign() / pixels
        self.bias = bias

    def mean_score(self, x: Tensor) -> Tensor:
        return 0.5 * ((x.flatten(1) - 0.5) @ self.w) + self.bias

    def forward(self, x: Tensor) -> Tensor:
        flips = torch.where(torch.rand_like(x) < 0.25, -1.0, 1.0).flatten(1)
        score = (flips * (x.flatten(1) - 0.5)) @ self.w + self.bias
        return torch.stack([torch.zeros_like(score), 10 * score], 1)


def test_what_withstands_one_pass_falls_to_the_mean(seed):
    eps = 0.1
    model = Flipping(bias=0.5 * 0.75 * eps)  # three quarters of the best perturbation are needed to break it
    x, y = torch.full((20, 1, 30, 30), 0.5), torch.ones(20, dtype=torch.int64)

    def standing(shown: nn.Module) -> int:
        made = attacks.get("pgd")(shown, x, y, eps=eps, random_start=False, stop_early=False)
        return int((model.mean_score(made) > 0).sum())

    assert standing(model) == 20
    assert standing(Averaged(model, 15)) == 0


def test_fusion_swap_still_finds_the_members(seed):
    """Behind a fusion without gradient, which only the members' own gradients lead past."""

    class Hidden(Ensemble):
        def fuse(self, logits: Tensor) -> Tensor:
            return mean_logit(logits).detach() + 0 * logits.sum(0)

    x, y, eps = torch.full((5, 1, 30, 30), 0.5), torch.ones(5, dtype=torch.int64), 0.1
    ensemble, trace = Hidden([Flipping(0.5 * 0.75 * eps), Flipping(0.5 * 0.75 * eps)]), Trace(5)
    swap = attacks.get("fusion-swap")
    how = {"eps": eps, "steps": 10, "random_start": False, "stop_early": False}
    made = swap(Batched(Averaged(ensemble, 15), 2), x, y, **how, trace=trace)
    assert (ensemble.members[0].mean_score(made) < 0).all()
    assert (trace.forwards == 11 * 5).all()  # mean logits, mean probabilities, summed losses, two members


def cell(name: str, eot: int, **params) -> Cell:
    return Cell("attack", "e", "d", Spec("attack", name, params), 0.1, "linf", eot=eot)


def test_cells_of_one_pass_are_what_they_were():
    assert "eot" not in cell("pgd", 1).to_json()
    assert cell("pgd", 1).params == {}
    assert cell("pgd", 4, steps=3).params == {"steps": 3, "eot": 4}
    assert len({cell("pgd", eot).key for eot in (1, 2, 3)}) == 3
    for eot in (1, 4):
        assert Cell.from_json(cell("pgd", eot).to_json()) == cell("pgd", eot)


def test_evaluator_shows_the_mean_and_counts_every_pass(trained: Ensemble, digits: Dataset, monkeypatch):
    split, run_options = digits.split("test").take(150), RunOptions(torch.device("cpu"), batch_size=64)
    clean = run_cell(Cell("clean", "e", "d"), trained, split, None, run_options).samples
    shown = []

    class Seen(Batched):
        def __init__(self, model: nn.Module, size: int) -> None:
            super().__init__(model, size)
            shown.append((type(model), size))

    monkeypatch.setattr("robustkit.evaluation.crafting.Batched", Seen)
    one, three = (run_cell(cell("pgd", eot, steps=2), trained, split, clean, run_options).samples for eot in (1, 3))
    assert shown == [(Ensemble, 64), (Averaged, 21)]
    assert (one.forwards <= 3).all()
    assert (one.forwards == 0).any()  # those that are wrong without a perturbation ...
    assert (three.forwards == 3 * 3).all()  # ... may be right in another pass; nor does a first success end an attack
    assert (three.backwards == 3 * 2).all()
    # Of a model that is not random the mean is the model: more steps at most, never a weaker result.
    assert not ((three.prediction == three.y) & (one.prediction != one.y)).any()


def test_each_eps_of_a_randomised_model_is_attacked_by_itself():
    study = Study(
        ensembles=(EnsembleRecord("adp", "key", "adp", {}, ("lenet",), 2, "mean-prob", "ab" * 32),),
        dataset=DatasetRecord("digits", "test", 8, ("a", "b"), "dd", (1, 8, 8)),
        attacks=(Spec("attack", "mim", {"steps": 10}),), eps=(0.1, 0.2), norm="linf", transfer_eps=0.1, eot=2,
    )  # fmt: skip
    cells = [cell for chain in study.chains() for cell in chain]
    assert [c.eps for c in cells if c.kind == "attack" and c.name == "mim"] == [0.1, 0.2]
    assert all(c.after == "" and c.eot == 2 for c in cells)
    assert Study.from_json(study.to_json()) == study
    linked = [c for chain in replace(study, eot=1).chains() for c in chain if c.after]
    assert sorted(c.name for c in linked) == ["mim", "quorum"]


NOISY_ARCH = """
import torch
from torch import nn

class Noisy(torch.nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64 * channels, 32), nn.ReLU(), nn.Linear(32, classes))

    def forward(self, x):
        return self.net(x + 0.2 * torch.randn_like(x))

def make(channels, classes):
    return Noisy(channels, classes)
"""


def test_whole_run(tmp_path: Path, monkeypatch, seed):
    (tmp_path / "noisy_arch.py").write_text(NOISY_ARCH)
    monkeypatch.syspath_prepend(str(tmp_path))
    said = io.StringIO()
    results = robustkit.evaluate(
        defense="baseline", arch="noisy_arch:make", members=2, epochs=3, n=24, attacks="pgd,fusion-swap", eps="0.1,0.2",
        settings=["pgd.steps=4", "fusion-swap.steps=3"], reference=False, eot=3, workers=1, out=tmp_path / "out",
        formats=("md",), reporter=Reporter(Console(file=said, width=500)),
    )  # fmt: skip
    sys.modules.pop("noisy_arch", None)
    assert "its logits differ from pass to pass: see --eot" in said.getvalue()
    assert [(e["attack"], e["eps"]) for e in results["evaluations"]] == [
        (name, eps) for name in ("pgd", "fusion-swap") for eps in (0.1, 0.2)
    ]
    assert {e["params"]["eot"] for e in results["evaluations"]} == {3}
    assert {t["params"]["eot"] for t in results["transfer"]} == {3}
    assert [e["forwards"] for e in results["evaluations"]] == [3 * 5, 3 * 5, 3 * 5 * 4, 3 * 5 * 4]
    assert all(check["passed"] for e in results["evaluations"] for check in e["checks"] if check["name"] == "completed")


def test_no_pass_at_all_is_refused(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["robustkit", "evaluate", "--eot", "0", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == "robustkit: eot 0 is out of range; it must be at least 1.\n"
    assert not (tmp_path / "out").exists()

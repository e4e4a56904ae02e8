"""What lies around a network in one file: averages of its weights, wrappers, members, a loss, a normaliser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from in_process import invoke
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import robustkit
from robustkit import models
from robustkit.auditing.choosing import versions_of
from robustkit.auditing.fitting import Fitted, fit
from robustkit.auditing.reading import ModelInFile, read
from robustkit.base.errors import UserError
from robustkit.ensembles.ensemble import Ensemble

QUICK = {"attacks": "fgsm", "eps": "0.1", "reference": False, "trust": "off", "workers": 1}
X = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(3))


def _network(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = models.build("small-resnet", 3, 10)
        for name, value in network.named_buffers():
            if value.is_floating_point():
                value.copy_(torch.rand_like(value) + (0.5 if name.endswith("var") else 0))
    return network.eval()


RAW, GOOD = _network(1), _network(2)


def _prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


def _averaged(network: nn.Module) -> dict[str, Tensor]:
    return AveragedModel(network).state_dict()  # n_averaged, module.*


def _parameters(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in network.named_parameters()}


def _fitted(found: ModelInFile) -> Fitted:
    return fit(found, channels=3, classes=10)


def _same(found: ModelInFile, network: nn.Module) -> Fitted:
    fitted = _fitted(found)
    with torch.no_grad():
        torch.testing.assert_close(fitted.network(X), network(X), rtol=0, atol=0)
    return fitted


def _with_raw_statistics() -> nn.Module:
    """GOOD's parameters over RAW's buffers, as averages of parameters alone are run."""
    network = _network(1)
    network.load_state_dict(_parameters(GOOD), strict=False)
    return network


A, B = RAW.state_dict(), GOOD.state_dict()
BOTH = {  # kind: what is saved, name of the raw version, of the average, the average as a network
    "timm": ({"epoch": 3, "state_dict": A, "state_dict_ema": B}, "state_dict", "state_dict_ema", GOOD),
    "ema_model": ({"model": A, "ema_model": B}, "model", "ema_model", GOOD),
    "torchvision": ({"model": A, "model_ema": _averaged(GOOD)}, "model", "model_ema", GOOD),
    "in parts": ({"net": A, "ema": {"state_dict": _prefixed(B, "module."), "decay": 0.9}}, "net", "ema", GOOD),
    "swa": ({"state_dict": A, "swa_state_dict": _averaged(GOOD)}, "state_dict", "swa_state_dict", GOOD),
    "teacher": ({"student": A, "teacher": B}, "student", "teacher", GOOD),
    "parameters": ({"model": A, "ema": {"shadow": _parameters(GOOD)}}, "model", "ema", _with_raw_statistics()),
    "list": (
        {"model": A, "ema": {"decay": 0.9, "shadow_params": list(_parameters(GOOD).values()), "collected_params": []}},
        "model", "ema", _with_raw_statistics(),
    ),
    "one state dict": ({**_prefixed(A, "model."), **_prefixed(B, "ema_model.")}, "model", "ema_model", GOOD),
    "beside bare keys": (
        {**A, **_prefixed(B, "ema.module."), "ema.n_averaged": torch.tensor(3)}, "the rest", "ema", GOOD,
    ),
    "without dots": (
        {
            **_prefixed(A, "model."), "model_ema.decay": torch.tensor(0.9), "model_ema.num_updates": torch.tensor(7),
            **{f"model_ema.{name.replace('.', '')}": value for name, value in _parameters(GOOD).items()},
        }, "model", "model_ema", _with_raw_statistics(),
    ),
    "Lightning's callback": (
        {
            "pytorch-lightning_version": "2.6.0", "state_dict": _prefixed(B, "model."),
            "current_model_state": _prefixed(A, "model."), "averaging_state": {"n_averaged": torch.tensor(5)},
        }, "current_model_state", "state_dict", GOOD,
    ),
    "another callback": (
        {
            "pytorch-lightning_version": "2.6.0", "state_dict": _prefixed(A, "net."),
            "callbacks": {"EMA": {"ema_state_dict": _prefixed(B, "net."), "decay": 0.9}, "Timer": {"seconds": 3.0}},
        }, "state_dict", "callbacks.EMA.ema_state_dict", GOOD,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BOTH)
def test_raw_weights_and_their_average_are_both_found(kind: str, tmp_path: Path):
    value, raw, average, good = BOTH[kind]
    torch.save(value, tmp_path / "m.pth")
    (found,) = read(tmp_path / "m.pth")
    for weights, network in (("raw", RAW), (raw, RAW), ("ema", good), (average, good)):
        (chosen,), (other,) = versions_of(found, weights)
        versions = {one.version for one in (chosen, other)}
        assert all(any(version.startswith(name) for version in versions) for name in (raw, average))
        _same(chosen, network)
    every, others = versions_of(found, None)
    assert (len(every), others) == (2, [])
    with pytest.raises(UserError, match=r"holds no weights 'best'; it holds .*\(raw\).*\(ema\)|\(ema\).*\(raw\)"):
        versions_of(found, "best")


def test_members_have_their_own_versions_and_whole_modules_too(tmp_path: Path):
    both = [{"state_dict": A, "state_dict_ema": B}, {"state_dict": B, "state_dict_ema": A}]
    torch.save({"model_0": both[0], "model_1": both[1]}, tmp_path / "m.pth")
    found = read(tmp_path / "m.pth")
    assert [(one.name, [other.name for other in one.versions]) for one in found] == [
        ("m-model_0", ["m-model_0"]), ("m-model_1", ["m-model_1"]),
    ]  # fmt: skip
    for one, (raw, average) in zip(found, ((RAW, GOOD), (GOOD, RAW)), strict=True):
        _same(versions_of(one, "raw")[0][0], raw)
        _same(versions_of(one, "ema")[0][0], average)
    torch.save({"model": RAW, "ema": GOOD, "epoch": 3}, tmp_path / "whole.pt")
    (whole,) = read(tmp_path / "whole.pt", trust_pickle=True)
    _same(versions_of(whole, "ema")[0][0], GOOD)
    _same(versions_of(whole, "raw")[0][0], RAW)


ALONE = {
    "state_dict_ema": {"state_dict_ema": B},
    "ema_model_state_dict": {"epoch": 1, "ema_model_state_dict": _averaged(GOOD)},
    "by its counters": _averaged(GOOD),
}


@pytest.mark.parametrize("name", ALONE)
def test_an_average_alone_is_used_and_said(name: str, tmp_path: Path):
    torch.save(ALONE[name], tmp_path / "m.pth")
    (found,) = read(tmp_path / "m.pth")
    _same(found, GOOD)
    assert f"these weights are an average over training steps ({name})" in found.notes
    with pytest.raises(UserError, match=r"holds no weights 'raw'; it holds .* \(ema\)"):
        versions_of(found, "raw")


def test_a_version_that_is_damaged_is_left_out_and_said(tmp_path: Path):
    bad = {**B, "bn1.bias": torch.full((16,), float("nan"))}
    torch.save({"model": A, "ema": bad}, tmp_path / "m.pth")
    (found,) = read(tmp_path / "m.pth")
    assert found.versions == ()
    assert any("the version 'ema' holds 16 weights that are NaN" in note for note in found.notes)


def test_other_weights_beside_are_no_version(tmp_path: Path):
    torch.save({"model": A, "ema": models.build("lenet", 1, 10).state_dict()}, tmp_path / "m.pth")
    (found,) = read(tmp_path / "m.pth")
    assert found.versions == ()
    assert "the file also holds ema; model is used" in found.notes


@pytest.fixture
def file(resnets: Ensemble, tmp_path: Path) -> tuple[Path, nn.Module, nn.Module]:
    """Weights that are nearly right, and their average; the file, and the two as networks."""
    member = list(resnets.members)[0]
    good = {name: value.clone() for name, value in member.network.state_dict().items()}
    noise = torch.Generator().manual_seed(0)
    raw = {
        name: value + 0.25 * value.std() * torch.randn(value.shape, generator=noise) if value.ndim == 4 else value
        for name, value in good.items()
    }
    torch.save({"model": raw, "ema_model": good}, tmp_path / "m.pth")
    worse = models.build("small-resnet", 1, 10).eval()
    worse.load_state_dict(raw)
    return tmp_path / "m.pth", worse, member.network


@pytest.mark.parametrize(("weights", "used"), [(None, "ema_model"), ("raw", "model"), ("ema_model", "ema_model")])
def test_an_audit_names_both_accuracies(file, weights, used, digits, tmp_path: Path):
    path, worse, good = file
    results = robustkit.audit(
        path, "digits", weights=weights, normalize="none", n=60, suites="attacks", out=tmp_path / "out", formats=(),
        **QUICK,
    )  # fmt: skip
    _, x, y = digits.split("test").take(512).batch(range(min(512, len(digits.split("test")))))
    with torch.no_grad():
        raw, average = (float((network(x).argmax(1) == y).double().mean()) for network in (worse, good))
        expected = float((dict(model=worse, ema_model=good)[used](x[:60]).argmax(1) == y[:60]).double().mean())
    assert raw < average - 0.02
    [finding] = [found for found in results["audit"][0]["findings"] if found["what"] == "weights"]
    assert (finding["value"], finding["how"]) == (used, "given" if weights else "detected")
    assert f"model {raw:.3f}" in finding["evidence"]
    assert f"ema_model {average:.3f}" in finding["evidence"]
    assert results["ensembles"][0]["accuracy"] == pytest.approx(expected)


def test_weights_that_are_not_there_are_refused(file, tmp_path: Path):
    path, _, _ = file
    code, _, error = invoke("audit", path, "--dataset", "digits", "--weights", "best", "--out", tmp_path / "out")
    assert code == 2
    assert "holds no weights 'best'; it holds model (raw), ema_model (ema)" in error
    with pytest.raises(UserError, match="--weights.*has no effect on a model in memory"):
        robustkit.audit(RAW, "digits", weights="ema")
    assert not (tmp_path / "out").exists()


# ---- wrappers: prefixes first, then members; what is no weight is set aside and named, a normaliser is used

MEAN, STD = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])
SAID = "0.4,0.5,0.6/0.2,0.25,0.3"
AROUND = {  # kind: what lies around the network's weights, the normaliser that is found
    "a loss": ({"loss.weight": torch.ones(10)}, "classifier.", ""),
    "a metric": ({"val_acc.correct": torch.tensor(3), "val_acc.total": torch.tensor(9)}, "model.", ""),
    "mu, sigma": ({"mu": MEAN.view(1, 3, 1, 1), "sigma": STD.view(1, 3, 1, 1)}, "", SAID),
    "normalize": ({"normalize.mean": MEAN.view(3, 1, 1), "normalize.std": STD.view(3, 1, 1)}, "net.", SAID),
    "a sequence": ({"0.mean": MEAN, "0.std": STD}, "1.", SAID),
    "of bytes": ({"norm.mean": 255 * MEAN, "norm.std": 255 * STD}, "model.", SAID),
    "robustness": (
        {
            "module.normalizer.new_mean": MEAN.view(3, 1, 1), "module.normalizer.new_std": STD.view(3, 1, 1),
            "module.attacker.normalize.new_mean": MEAN.view(3, 1, 1),
            "module.attacker.normalize.new_std": STD.view(3, 1, 1),
        }, "module.attacker.model.", SAID,
    ),
    "a temperature": ({"temperature": torch.ones(1)}, "", ""),
    "a second head": ({"projector.weight": torch.ones(8, 64), "projector.bias": torch.ones(8)}, "encoder.", ""),
}  # fmt: skip


@pytest.mark.parametrize("kind", AROUND)
def test_what_lies_around_a_network_is_set_aside_and_named(kind: str, tmp_path: Path):
    around, prefix, normalize = AROUND[kind]
    torch.save({**around, **_prefixed(A, prefix)}, tmp_path / "m.pth")
    owned = {name: value.clone() for name, value in around.items()}
    safetensors.torch.save_file({**owned, **_prefixed(A, prefix)}, tmp_path / "m.safetensors")
    for found in read(tmp_path):
        fitted = _same(found, RAW)
        assert (fitted.arch, fitted.normalize) == ("small-resnet", normalize)
        assert next(iter(sorted(around, key=lambda name: not name.startswith("module.attacker")))) in " ".join(
            (*found.notes, *fitted.notes)
        )
        assert normalize in " ".join(found.notes)


def test_a_network_that_runs_and_attacks_itself_is_one(tmp_path: Path):
    wrapped = {**_prefixed(A, "module.model."), **_prefixed(A, "module.attacker.model.")}
    torch.save(
        {"model": {**wrapped, "module.normalizer.new_mean": MEAN, "module.normalizer.new_std": STD}}, tmp_path / "m"
    )
    (found,) = read(tmp_path / "m")
    assert _same(found, RAW).normalize == SAID


def test_a_normaliser_in_the_file_was_given_by_nobody(resnets: Ensemble, tmp_path: Path):
    torch.save(list(resnets.members)[0].state_dict(), tmp_path / "m.pt")
    results = robustkit.audit(
        tmp_path / "m.pt", "digits", n=60, suites="attacks", out=tmp_path / "out", formats=(), **QUICK
    )
    [finding] = [found for found in results["audit"][0]["findings"] if found["what"] == "normalisation"]
    assert finding["how"] == "detected"
    assert finding["evidence"].startswith("mean and deviation lie in the file; accuracy ")
    assert "worst of 1 ways" not in finding["evidence"]


LISTS = {
    "Lightning": {"pytorch-lightning_version": "2.5.0", "state_dict": {
        **_prefixed(A, "model.members.0."), **_prefixed(B, "model.members.1."), "loss.weight": torch.ones(10),
    }},
    "beside a criterion": {
        **_prefixed(A, "models.0."), **_prefixed(B, "models.1."), "criterion.weight": torch.ones(10),
    },
    "each wrapped": {**_prefixed(A, "net.models.0.module."), **_prefixed(B, "net.models.1.module.")},
    "bare": {**_prefixed(A, "0."), **_prefixed(B, "1.")},
    "behind a normaliser": {
        "normalize.mean": MEAN, "normalize.std": STD, **_prefixed(A, "members.0."), **_prefixed(B, "members.1."),
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", LISTS)
def test_members_are_found_below_prefixes(kind: str, tmp_path: Path):
    torch.save(LISTS[kind], tmp_path / "m.ckpt")
    first, second = read(tmp_path / "m.ckpt")
    normalize = SAID if kind == "behind a normaliser" else ""
    assert _same(first, RAW).normalize == normalize
    assert _same(second, GOOD).normalize == normalize


def test_a_network_that_holds_its_normaliser_keeps_it(tmp_path: Path):
    (tmp_path / "nets.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, classes):\n"
        "        super().__init__()\n"
        "        self.register_buffer('mean', torch.zeros(1, 3, 1, 1))\n"
        "        self.register_buffer('std', torch.ones(1, 3, 1, 1))\n"
        "        self.model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, classes))\n"
        "    def forward(self, x):\n"
        "        return self.model((x - self.mean) / self.std)\n"
    )
    arch = f"{tmp_path / 'nets.py'}:Net"
    network = models.build(arch, 3, 10)
    network.mean.copy_(MEAN.view(1, 3, 1, 1))
    torch.save(network.state_dict(), tmp_path / "m.pth")
    (found,) = read(tmp_path / "m.pth")
    fitted = fit(found, arch=arch, channels=3, classes=10)
    assert fitted.normalize == ""
    with torch.no_grad():
        assert torch.equal(fitted.network(X), network(X))


def test_the_files_normaliser_is_what_an_audit_runs(resnets: Ensemble, digits, tmp_path: Path):
    member = list(resnets.members)[0]
    scaled = {f"net.{name}": value.clone() for name, value in member.network.state_dict().items()}
    scaled["net.conv1.weight"] *= 0.37  # inputs are divided by as much
    torch.save({"normalize.mean": torch.zeros(1), "normalize.std": torch.tensor([0.37]), **scaled}, tmp_path / "m.pth")
    results = robustkit.audit(
        tmp_path / "m.pth", "digits", n=60, suites="attacks", out=tmp_path / "out", formats=(), **QUICK
    )
    _, x, y = digits.split("test").take(60).batch(range(60))
    with torch.no_grad():
        expected = float((member.network(x).argmax(1) == y).double().mean())
    assert results["ensembles"][0]["accuracy"] == pytest.approx(expected)
    assert "0/0.37" in json.dumps(results["audit"][0]["findings"])

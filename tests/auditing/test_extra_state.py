"""Modules keep more than tensors: bytes, dicts, quantised weights; and modules of torch.export have no modes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import robustkit
from robustkit import models
from robustkit.auditing.fitting import fit
from robustkit.auditing.reading import read
from robustkit.base.errors import UserError
from robustkit.ensembles.ensemble import Ensemble, fingerprint

QUICK = {"attacks": "fgsm", "eps": "0.1", "reference": False, "trust": "off", "workers": 1}
NET = """
import torch
from torch import nn

class Scale(nn.Module):
    by = 1.0
    def get_extra_state(self):
        return {"by": self.by}
    def set_extra_state(self, state):
        self.by = state["by"]
    def forward(self, x):
        return x * self.by

class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.scale, self.linear = Scale(), nn.Linear(12, classes)
    def forward(self, x):
        return self.scale(self.linear(x.flatten(1)))
"""
KEPT: dict[str, Any] = {
    "bytes": b"\0\1",
    "dict": {"a": 1},
    "None": None,
    "an object": object(),
    "tensors": (torch.ones(2),),
}


class Keeps(nn.Module):
    """A network that keeps a value beside its weights."""

    def __init__(self, inner: nn.Module, value: Any) -> None:
        super().__init__()
        self.inner, self.value = inner, value

    def get_extra_state(self) -> Any:
        return self.value

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


@pytest.mark.parametrize("kind", KEPT)
def test_a_module_with_state_that_is_no_tensor_is_audited(kind: str, resnets: Ensemble, test_images, tmp_path: Path):
    x, y = test_images
    network = list(resnets.members)[0]
    results = robustkit.audit(
        Keeps(network, KEPT[kind]), (x, y), n=30, suites="attacks", out=tmp_path / "out", formats=(), **QUICK
    )
    with torch.no_grad():
        expected = float((network(x[:30]).argmax(1) == y[:30]).double().mean())
    assert results["ensembles"][0]["accuracy"] == pytest.approx(expected)


def test_state_that_is_no_tensor_tells_models_apart():
    values = (*KEPT.values(), b"\0\2", {"a": 2}, {"b": 1}, lambda: 1, (torch.zeros(2),), "text", 3)
    seen = [fingerprint(Keeps(nn.Identity(), value).state_dict()) for value in values]
    assert len(set(seen)) == len(values)
    again = [fingerprint(Keeps(nn.Identity(), value).state_dict()) for value in ({"a": 1}, b"\0\1", (torch.ones(2),))]
    assert again == [seen[1], seen[0], seen[4]]


def test_quantised_and_sparse_tensors_have_a_fingerprint():
    whole = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    quantised = [torch.quantize_per_tensor(whole, scale, 0, torch.qint8) for scale in (0.5, 0.25)]
    seen = [fingerprint({"w": value}) for value in (whole, *quantised, whole.to_sparse(), 2 * whole.to_sparse())]
    assert len(set(seen)) == 4  # a sparse tensor is the dense one of its values
    assert seen[0] == seen[3]


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_files_extra_state_reaches_the_network(prefix: str, tmp_path: Path):
    (tmp_path / "nets.py").write_text(NET)
    network = models.build(f"{tmp_path / 'nets.py'}:Net", 3, 10)
    network.scale.by = 2.5
    torch.save({"state_dict": {prefix + k: v for k, v in network.state_dict().items()}}, tmp_path / "m.pth")
    (found,) = read(tmp_path / "m.pth")
    fitted = fit(found, arch=f"{tmp_path / 'nets.py'}:Net", channels=3, classes=10)
    x = torch.rand(3, 3, 2, 2)
    with torch.no_grad():
        torch.testing.assert_close(fitted.network(x), network(x))
    assert any("'scale._extra_state' keeps beside weights is taken from the file" in note for note in fitted.notes)


@pytest.mark.parametrize("value", [{"version": 1}, b"\0", None, torch.zeros(3, dtype=torch.uint8), [torch.ones(2)]])
def test_extra_state_beside_a_known_network_is_no_difference(value: Any, tmp_path: Path):
    network = models.build("small-resnet", 3, 10).eval()
    torch.save({**network.state_dict(), "bn1._extra_state": value}, tmp_path / "m.pth")
    (found,) = read(tmp_path / "m.pth")
    x = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(fit(found, channels=3, classes=10).network(x), network(x))


@pytest.mark.filterwarnings("ignore")
def test_packed_weights_of_a_quantised_file_are_named(tmp_path: Path):
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 10))
    try:
        quantised = torch.ao.quantization.quantize_dynamic(network, {nn.Linear}, dtype=torch.qint8)
    except (RuntimeError, AttributeError):
        pytest.skip("this torch has no quantisation engine")
    torch.save(quantised.state_dict(), tmp_path / "m.pth")
    with pytest.raises(UserError, match=r"packed weights of quantised layers \('1._packed_params._packed_params'\)"):
        read(tmp_path / "m.pth")


@pytest.mark.parametrize(("inside", "sizes"), [(False, None), (True, {"max": 40})])
def test_a_module_of_torch_export_is_audited(inside: bool, sizes, resnets: Ensemble, test_images, tmp_path: Path):
    x, y = test_images
    member = list(resnets.members)[0]
    shapes = ({0: torch.export.Dim("batch", **sizes)},) if sizes else None
    program = torch.export.export(member, (x[:7],), dynamic_shapes=shapes).module()
    model = nn.Sequential(nn.Identity(), program) if inside else program
    results = robustkit.audit(model, (x, y), n=30, suites="attacks", out=tmp_path / "out", formats=(), **QUICK)
    with torch.no_grad():
        expected = float((member(x[:30]).argmax(1) == y[:30]).double().mean())
    assert results["ensembles"][0]["accuracy"] == pytest.approx(expected)
    assert results["evaluations"][0]["robust_accuracy"] < expected
    assert not any(found["concern"] for found in results["audit"][0]["findings"])

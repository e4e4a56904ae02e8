"""Models of others on a GPU: what was exported for the CPU moves, and what is lent is given back."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from accelerator import pretend_cuda
from torch import Tensor, nn

from robustkit.auditing import _scripted
from robustkit.auditing._batches import InBatches
from robustkit.auditing._batches import exported as wrapped
from robustkit.auditing.in_memory import lent
from robustkit.auditing.reading import read

scripting = pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning", "ignore::torch.jit.TracerWarning")


class Shifted(nn.Module):
    """Makes a tensor in its forward pass, on a device that the exported program writes down."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1)) + torch.arange(4, device=x.device)


@pytest.mark.parametrize("made", ["in a file", "in memory"])
def test_an_exported_program_moves_with_what_its_code_makes(made: str):
    x = torch.rand(5, 3, 2, 2)
    program = torch.export.export(Shifted().eval(), (x,)).module()
    model = InBatches(program) if made == "in a file" else wrapped(program)
    assert model is not None
    expected = model(x)
    assert torch.equal(model.to("cpu")(x), expected)
    with torch.no_grad():  # no values there, and none of the host's may meet them
        assert model.to("meta")(x.to("meta")).device == torch.device("meta")


CONSTANT = torch.tensor([1.0, 2.0, 3.0, 4.0])


class Weighed(nn.Module):
    """Makes tensors in its forward pass and in that of a part, on devices that tracing writes down."""

    def __init__(self, inner: nn.Module, constant: bool) -> None:
        super().__init__()
        self.inner, self.constant = inner, constant

    def forward(self, x: Tensor) -> Tensor:
        z = self.inner(x) * torch.ones(1)
        return z + CONSTANT if self.constant else z


class Counted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :4] + torch.arange(4, device=x.device)


@scripting
@pytest.mark.parametrize("constant", [False, True])
def test_torchscript_moves_with_what_its_code_makes(constant: bool, tmp_path: Path):
    """Without weights, and back without a constant: a program in C++ saves nothing that is on the pretend GPU."""
    x = torch.rand(5, 3, 2, 2)
    torch.jit.trace(Weighed(Counted(), constant).eval(), (x,)).save(tmp_path / "net.pt")
    (found,) = read(tmp_path / "net.pt", trust_pickle=True)
    model = found.module
    assert model is not None
    expected = model(x)
    with pretend_cuda():
        bare = torch.jit.load(tmp_path / "net.pt")
        with pytest.raises(RuntimeError, match="failed in the TorchScript interpreter"):
            bare.to("cuda")(x.to("cuda"))
        there = copy.deepcopy(model).to("cuda")
        for _ in range(3):  # what runs often is compiled
            made = there(x.to("cuda"))
            assert made.device == torch.device("cuda:0")
            assert torch.equal(made.cpu(), expected)
        assert torch.equal(model(x), expected)
        if not constant:
            assert torch.equal(there.to("cpu")(x), expected)


@scripting
@pytest.mark.parametrize("place", ["cpu", "cuda"])
def test_torchscript_written_anew_has_the_same_weights(place: str, tmp_path: Path):
    if place == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    x = torch.rand(5, 3, 2, 2)
    torch.jit.trace(Weighed(Shifted(), True).eval(), (x,)).save(tmp_path / "net.pt")
    (found,) = read(tmp_path / "net.pt", trust_pickle=True)
    model = found.module.eval().requires_grad_(False)
    expected = model(x)
    if place == "cpu":  # as on the way to another device, without one
        model.program = _scripted._written_for(model.program, torch.device("cpu"))
    made = model.to(place)
    torch.testing.assert_close(made(x.to(place)).cpu(), expected, rtol=1e-4, atol=1e-5)
    assert not any(p.requires_grad for p in made.parameters())
    assert not any(m.training for m in made.modules())


@scripting
def test_torchscript_that_names_no_device_is_left_as_it_is(tmp_path: Path):
    torch.jit.trace(nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).eval(), (torch.rand(5, 3, 2, 2),)).save(
        tmp_path / "net.pt"
    )
    (found,) = read(tmp_path / "net.pt", trust_pickle=True)
    assert isinstance(found.module, torch.jit.ScriptModule)


def moved_and_failed(net: nn.Module) -> None:
    with lent([net, "file.pt"]):
        net.to("cuda")
        assert next(net.parameters()).is_cuda
        raise ValueError("meanwhile")


def test_a_module_is_given_back_where_it_was():
    net, other = nn.Linear(2, 2), nn.Linear(2, 2)
    with pretend_cuda():
        with pytest.raises(ValueError, match="meanwhile"):
            moved_and_failed(net)
        assert not net.weight.is_cuda
        other.to("cuda")
        with lent(other):
            other.to("cpu")
        assert other.weight.is_cuda

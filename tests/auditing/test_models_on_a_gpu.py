"""Models of others on a GPU: what was exported for the CPU moves, and what is lent is given back."""

from __future__ import annotations

import pytest
import torch
from accelerator import pretend_cuda
from torch import Tensor, nn

from robustkit.auditing._batches import InBatches
from robustkit.auditing._batches import exported as wrapped
from robustkit.auditing.in_memory import lent


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

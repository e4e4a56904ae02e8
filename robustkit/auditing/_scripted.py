"""TorchScript whose code names a device: it makes its tensors on the one that the module is moved to."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn


class Scripted(nn.Module):
    """A TorchScript program that follows ``to``, whatever devices tracing wrote into its code.

    Parameters
    ----------
    program : ScriptModule
        On the CPU, where its code makes its tensors.
    """

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program
        self._place = torch.device("cpu")

    def forward(self, x: Tensor) -> Any:
        """Return what the program does."""
        return self.program(x)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Scripted:
        """Move the program, and what its code makes."""
        place = fn(torch.empty(0, device=self._place)).device
        if place != self._place:
            self.program = _written_for(self.program, place)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._place = place
        return self


def loaded(stream: BinaryIO) -> nn.Module:
    """Load a TorchScript program from where a stream stands, onto the CPU, code and all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch.jit is deprecated is not the user's doing
        program: nn.Module = torch.jit.load(stream, map_location="cpu")  # type: ignore[no-untyped-call]
    return program


def names_a_device(program: nn.Module) -> bool:
    """Return whether the code of a TorchScript program makes a tensor on a device that it names."""
    return next(_constants(program), None) is not None


def _constants(program: nn.Module) -> Iterator[Any]:
    """Yield the nodes of a program's code that are a device or a tensor."""
    for part in program.modules():
        code: Any = getattr(part, "_c", None)
        for name in code._method_names() if code is not None else ():
            for node in code._get_method(name).graph.findAllNodes("prim::Constant", True):
                if node.hasAttribute("value") and (_is_device(node) or node.kindOf("value") == "t"):
                    yield node


def _is_device(node: Any) -> bool:
    return bool(node.output().type().kind() == "DeviceObjType")


def _written_for(program: nn.Module, place: torch.device) -> nn.Module:
    """Return a copy of a program whose code makes its tensors on a device; what has run is compiled, and stays."""
    held = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch.jit is deprecated is not the user's doing
        torch.jit.save(program, held)
    held.seek(0)
    made = loaded(held)
    for node in _constants(made):
        if _is_device(node):
            node.s_("value", str(place))
        else:
            node.t_("value", node.t("value").to(place))
    return made

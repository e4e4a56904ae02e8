"""Programs that take only batches of some sizes: larger ones are split, smaller ones filled up."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from robustkit.auditing.entries import entries, first_tensor

PROBE = 2**22  # numbers in the images that an ONNX network is tried with, at most
ENDLESS = 2**31  # a bound so large is none
CLOSE = 1e-4  # of the largest output: what rounding may change between batches


class InBatches(nn.Module):
    """A program behind what a module does: images (B, ...) to outputs (B, L), whatever B, in batches that it takes.

    A batch that is too small is filled up with its last image, whose further outputs are dropped. Whether the program
    trains was settled when it was saved, so that ``train`` and ``eval`` do nothing.

    Parameters
    ----------
    low, high : int
        Fewest and most images that the program takes at a time; high 0: any number.
    """

    def __init__(self, program: nn.Module, low: int = 1, high: int = 0) -> None:
        super().__init__()
        self.program, self.low, self.high = program, low, high
        if not isinstance(self, Exported):
            _flag(self, False)  # a saved program has the flag's default, which says nothing

    def train(self, mode: bool = True) -> InBatches:
        """Do nothing; ``torch.export``'s programs raise here."""
        return self

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        """Return outputs (B, L), or all of them by name where the program has several."""
        parts = [self._of(part) for part in (torch.split(x, self.high) if self.high else (x,))]
        whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return whole if len(whole) > 1 else next(iter(whole.values()))

    def _of(self, part: Tensor) -> dict[str, Tensor]:
        lacking = max(0, self.low - len(part))
        filled = torch.cat([part, part[-1:].expand(lacking, *part.shape[1:])]) if lacking else part
        output = self.program(filled)
        found = entries(output) or {"": first_tensor(output)}
        return {name: rows[: len(part)] for name, rows in found.items()}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> InBatches:
        """Move the program, and what its code makes on the device that it was exported on."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        place = next((t.device for t in (*self.parameters(), *self.buffers())), fn(torch.empty(0)).device)
        for part in self.modules():
            if isinstance(part, torch.fx.GraphModule) and _moved(part.graph, place):
                part.recompile()
        return self

    def notes(self) -> list[str]:
        """Return what a report says of it."""
        if self.low == self.high:
            return [f"exported for batches of {self.low}: images are run in such batches, the last one filled up"]
        return (
            [f"takes {self.low} to {self.high or 'any number of'} images at a time"] if self.high + self.low > 1 else []
        )


class Exported(InBatches):
    """A module of ``torch.export``'s, or one with such a module inside, which raises where it is put into another mode.

    Modes are set by their flag alone, which other modules inside obey.
    """

    def train(self, mode: bool = True) -> Exported:
        """Set every module's mode."""
        _flag(self, mode)
        return self


def _moved(graph: torch.fx.Graph, place: torch.device) -> bool:
    """Let the code of a program make its tensors on a device; return whether it makes any."""
    changed = False
    for node in graph.nodes:
        replaced = torch.fx.node.map_aggregate(
            (node.args, node.kwargs), lambda one: place if isinstance(one, torch.device) else one
        )
        if replaced != (node.args, node.kwargs):
            node.args, node.kwargs = replaced
            changed = True
    return changed


def _flag(module: nn.Module, training: bool) -> None:
    for part in module.modules():
        part.training = training


def exported(module: nn.Module) -> Exported | None:
    """Return a module behind :class:`Exported` where ``torch.export`` made it or a part of it, else None."""
    programs = [part for part in module.modules() if "eval" in vars(part)]  # it is there to raise
    if not programs:
        return None
    graph = getattr(programs[0], "graph", None)
    nodes = [node for node in graph.nodes if node.op == "placeholder"] if graph else []
    return Exported(module, *sizes(nodes, getattr(programs[0], "range_constraints", {})))


def sizes(inputs: Sequence[Any], constraints: Mapping[Any, Any]) -> tuple[int, int]:
    """Return the fewest and the most images at a time of an exported program's input nodes; the most 0: any number."""
    value = inputs[0].meta.get("val") if inputs else None
    batch = value.shape[0] if isinstance(value, Tensor) and value.ndim else None
    if isinstance(batch, int):
        return batch, batch
    known = constraints.get(getattr(getattr(batch, "node", None), "expr", None))
    if known is None:
        return 1, 0
    low, high = int(known.lower), int(known.upper) if known.upper < ENDLESS else 0
    return (low if low > 2 else 1), high  # 2 is what torch.export always says, and one image does


@torch.no_grad()
def takes_any(network: nn.Module, shape: tuple[int, ...]) -> bool:
    """Return whether a network that was exported for images of a shape (B, C, H, W) takes twice as many as well."""
    if math.prod(shape) > PROBE // 2:
        return False
    x = torch.rand(2 * shape[0], *shape[1:], generator=torch.Generator().manual_seed(0))
    try:
        parts = torch.cat([first_tensor(network(part)) for part in torch.split(x, shape[0])])
        whole = first_tensor(network(x))
    except Exception:  # noqa: BLE001 - a stranger's program may raise anything
        return False
    return whole.shape == parts.shape and bool((whole - parts).abs().max() <= CLOSE * parts.abs().max())

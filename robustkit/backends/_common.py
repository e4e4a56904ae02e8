"""What every adapter needs: counting, seeding, and parameters read from a constructor."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from robustkit.base.parallel import GLOBAL_RNG
from robustkit.base.registry import REQUIRED, Param
from robustkit.functional.sampling import SampleGenerator
from robustkit.functional.trace import Trace


class Counted(nn.Module):
    """Passes images through, counts the rows that went forward and back, and adds ``shift`` to every output."""

    def __init__(self, model: Callable[[Tensor], Tensor], shift: float = 0.0) -> None:
        super().__init__()
        self.shift = shift
        self.model = model  # registered as a submodule where it is one, so that a library finds its device
        self.forwards = self.backwards = 0
        self.training = False  # this module's own flag alone: eval() would reach into the model

    def forward(self, x: Tensor) -> Tensor:
        """Return the model's output."""
        self.forwards += len(x)
        out = self.model(x) + self.shift
        if out.requires_grad:
            out.register_hook(self._back)  # type: ignore[no-untyped-call]
        return out

    def _back(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)

    def report(self, trace: Trace | None) -> None:
        """Give every sample its equal share: what a library does with a single one is not to be seen from outside."""
        if trace is not None:
            size = len(trace.forwards)
            rows = torch.arange(size)
            trace.count(rows, round(self.forwards / size), round(self.backwards / size))


@contextmanager
def seeded(generator: SampleGenerator | None) -> Iterator[None]:
    """Seed torch's global generator for a library that knows no other, and put it back; one library at a time."""
    import numpy as np

    seed = 0 if generator is None else int(generator.bits(()).sum()) % (2**32)
    state = np.random.get_state()  # noqa: NPY002 - the libraries draw from it
    with GLOBAL_RNG, torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002


@contextmanager
def untouched(model: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Put every module's mode back to what it was: libraries switch to eval and forget."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    modes = [module.training for module in modules]
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def constructor_params(factory: type, leave_out: set[str]) -> tuple[Param, ...]:
    """Return the parameters of a constructor as ours are described; the type is that of the default."""
    found = []
    for p in inspect.signature(factory).parameters.values():
        if p.name in leave_out or p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL):
            continue
        default = REQUIRED if p.default is p.empty else p.default
        kind = {bool: "bool", int: "number", float: "float", str: "str"}.get(type(p.default), "Any")
        if p.default is None:
            kind = "number | None"
        found.append(Param(p.name, kind, default))
    return tuple(found)

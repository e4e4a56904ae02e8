"""How member outputs are computed in training: layout, precision, compiled or stacked, chosen by a short trial."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from robustkit.base import paths
from robustkit.base.devices import machine
from robustkit.base.errors import RunError, UserError
from robustkit.base.files import write_json
from robustkit.ensembles.ensemble import Ensemble
from robustkit.ensembles.fastpath import HOPELESS, fastest
from robustkit.functional.batching import out_of_memory
from robustkit.records.cells import digest

PLAIN, LAYOUT, PRECISION, STACKED, COMPILED = "as it is", "channels last", "bfloat16", "stacked", "compiled"
WORTHWHILE = 1.15  # by how much reduced precision must be faster, since it rounds more
LONG = 900.0  # seconds of training from which on a minute of compiling may pay
_TRIAL = threading.Lock()  # trials side by side would measure each other


class Forward:
    """Member logits of training batches, and on request the inputs of each member's last linear layer.

    Parameters
    ----------
    ensemble : Ensemble
        Its members are called; put into the memory layout that ``way`` names.
    way : str
        Some of ``channels last``, ``bfloat16``, ``stacked``, ``compiled``, joined by commas, or ``as it is``.
    features : bool
        Whether the inputs of the last linear layers are wanted; not with ``stacked`` or ``compiled``.
    """

    def __init__(self, ensemble: Ensemble, way: str, features: bool = False) -> None:
        self.parts = set(way.split(", "))
        self.layout = torch.channels_last if LAYOUT in self.parts else torch.contiguous_format
        ensemble.to(memory_format=self.layout)
        self.members: Sequence[nn.Module] = list(ensemble.members)
        if COMPILED in self.parts:
            self.members = [torch.compile(member) for member in ensemble.members]  # type: ignore[misc]
        self._heads = [last_linear(member) for member in ensemble.members] if features else []

    def __call__(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return logits (M, B, L), float32, and each member's features (B, D); x is (B, C, H, W) or (M, B, C, H, W)."""
        own = x if x.dim() == 5 else [x] * len(self.members)
        with self.precision(x.device), _inputs_of(self._heads) as features:
            if STACKED in self.parts and x.dim() == 4:
                logits = stacked(self.members, x.contiguous(memory_format=self.layout))
            else:
                logits = torch.stack(
                    [m(o.contiguous(memory_format=self.layout)) for m, o in zip(self.members, own, strict=True)]
                )
        return logits.float(), tuple(f.float() for f in features)

    def alone(self, index: int) -> Forward:
        """Return the same for one member."""
        one = copy.copy(self)
        one.members, one._heads = self.members[index : index + 1], self._heads[index : index + 1]
        return one

    def precision(self, device: torch.device) -> contextlib.AbstractContextManager[object]:
        """Return the context in which convolutions and products have the precision of this way."""
        rough = PRECISION in self.parts
        return torch.autocast(device.type, torch.bfloat16) if rough else contextlib.nullcontext()


def last_linear(member: nn.Module) -> nn.Linear:
    """Return the member's last linear layer, in the order of its modules."""
    linear = [module for module in member.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UserError(
            f"a member of type {type(member).__name__} has no linear layer, whose inputs the defence needs; "
            "use another --arch."
        )
    return linear[-1]


@contextlib.contextmanager
def _inputs_of(layers: Sequence[nn.Linear]) -> Iterator[list[Tensor]]:
    """Yield a list that is filled with what the layers are given, in the order in which they are called."""
    seen: list[Tensor] = []
    hooks = [layer.register_forward_pre_hook(lambda _, given: seen.append(given[0])) for layer in layers]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def stacked(members: Sequence[nn.Module], x: Tensor) -> Tensor:
    """Return logits (M, B, L) of members of one architecture, computed as one model of stacked weights.

    Gradients reach each member's own weights, and its batch norm's running statistics are moved on.
    """
    named = [dict(m.named_parameters()) for m in members]
    kept = [dict(m.named_buffers()) for m in members]
    weights = {name: torch.stack([params[name] for params in named]) for name in named[0]}
    buffers = {name: torch.stack([b[name] for b in kept]) for name in kept[0]}

    def one(weight: dict[str, Tensor], buffer: dict[str, Tensor]) -> Tensor:
        z: Tensor = torch.func.functional_call(members[0], (weight, buffer), (x,))
        return z

    logits: Tensor = torch.func.vmap(one, randomness="different")(weights, buffers)
    with torch.no_grad():
        for dtype in {value.dtype for value in buffers.values()}:  # one launch for all of a kind
            names = [name for name, value in buffers.items() if value.dtype == dtype]
            moved = [part for name in names for part in buffers[name].unbind()]
            torch._foreach_copy_([buffer[name] for name in names for buffer in kept], moved)
    return logits


def choose(ensemble: Ensemble, x: Tensor, y: Tensor, steps: int, speed: str, *, plain_calls: bool = False) -> str:
    """Return the fastest way for training steps like this one; remembered on this machine.

    Parameters
    ----------
    x, y : Tensor
        One training batch on the device, (B, C, H, W) and (B,).
    steps : int
        How many such steps there will be: compiling costs a minute, and is tried if it may pay.
    speed : {"off", "auto", "max"}
        ``off``: as it is. ``max`` compiles in any case where it helps.
    plain_calls : bool
        Members must be called as modules, so neither stacked nor compiled.
    """
    if speed == "off":
        return PLAIN
    kind = [[type(m).__name__, sum(p.numel() for p in m.parameters())] for m in ensemble.members]
    file = paths.cache_dir() / "forward" / (
        digest([kind, list(x.shape), machine(x.device), torch.get_num_threads(), torch.__version__, speed, plain_calls,
                speed == "auto" and steps.bit_length()]) + ".json"
    )  # fmt: skip
    with _TRIAL:
        try:
            return str(json.loads(file.read_text("utf-8"))["way"])
        except (OSError, ValueError, KeyError):
            way, seconds = _trial(ensemble, x, y, steps, speed, plain_calls)
            write_json(file, {"way": way, "seconds": seconds})
            return way


def _trial(
    ensemble: Ensemble, x: Tensor, y: Tensor, steps: int, speed: str, plain_calls: bool
) -> tuple[str, dict[str, float]]:
    ways = [PLAIN, LAYOUT, f"{LAYOUT}, {PRECISION}"]
    if x.device.type != "cpu" and not plain_calls:  # a CPU gains nothing: one member's convolutions fill it
        ways += [f"{LAYOUT}, {STACKED}", f"{LAYOUT}, {PRECISION}, {STACKED}"]
    seconds: dict[str, float] = {}
    for way in ways:
        limit = HOPELESS * min(seconds.values(), default=math.inf)
        if (found := _seconds(ensemble, way, x, y, limit)) is not None:
            seconds[way] = found
    if not seconds:  # nothing works, not even the plain way: say why
        _fits(ensemble, x, y)
    best = _best(seconds)
    # Dynamo compiles one thing at a time, and a training beside this one would wait for it.
    alone = threading.current_thread() is threading.main_thread()
    if not plain_calls and alone and (speed == "max" or steps * seconds[best] > LONG):
        started = time.perf_counter()
        candidate = f"{best}, {COMPILED}" if best != PLAIN else COMPILED
        found = _seconds(ensemble, candidate, x, y)
        cost = 0.0 if speed == "max" else time.perf_counter() - started
        if found is not None and found * steps + cost < seconds[best] * steps:
            seconds[candidate], best = found, candidate
    return best, seconds


def _fits(ensemble: Ensemble, x: Tensor, y: Tensor) -> None:
    """Compute one step plainly, and raise what is wrong with it."""
    try:
        _step(copy.deepcopy(ensemble).train(), PLAIN, x, y)()
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise RunError(
            f"a training step of {len(x)} images does not fit into the memory of {x.device}; "
            f"use --set train.batch_size={max(1, len(x) // 2)}, or fewer members."
        ) from error


def _step(trial: Ensemble, way: str, x: Tensor, y: Tensor) -> Callable[[], object]:
    """Return the forward and backward pass of one step."""
    forward = Forward(trial, way)

    def step() -> None:
        logits, _ = forward(x)
        functional.cross_entropy(logits.flatten(0, 1), y.repeat(len(logits))).backward()  # type: ignore[no-untyped-call]

    return step


def _best(seconds: dict[str, float]) -> str:
    def weighed(way: str) -> float:
        return seconds[way] * (WORTHWHILE if PRECISION in way else 1.0)

    return min(seconds, key=weighed)


def _seconds(ensemble: Ensemble, way: str, x: Tensor, y: Tensor, hopeless: float = math.inf) -> float | None:
    """Return the time of one step's forward and backward pass on a copy, or None where that does not work."""
    trial = copy.deepcopy(ensemble).train()
    try:
        found = fastest(_step(trial, way, x, y), x.device, hopeless=hopeless)
    except Exception:  # noqa: BLE001 - whatever a stranger's module raises when stacked, compiled or under autocast
        return None
    sound = all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in trial.parameters())
    return found if sound and math.isfinite(found) else None

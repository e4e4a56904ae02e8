"""Faster copies of an ensemble for crafting, proven on real images and chosen by a trial; the original judges success.

What an attack is shown is *exact*: equal to the original but for rounding, with batch norm folded into the convolutions
and whichever memory layout the trial finds faster. Where reduced precision is much faster still, a *rough* copy goes
first, and whatever it leaves standing is attacked again with the exact one: the result is never weaker.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from robustkit.ensembles import captured
from robustkit.ensembles.bfloat16 import cast_once
from robustkit.ensembles.ensemble import Ensemble
from robustkit.ensembles.folding import fold, same_logits, without_denormals
from robustkit.ensembles.merged import MergedEnsemble, mergeable
from robustkit.functional.batching import out_of_memory
from robustkit.functional.precision import exactly

AGREEMENT = 0.9  # share of the predictions in which a rough copy must agree
WORTHWHILE = 1.3  # by how much a rough copy must beat the exact one: what it leaves standing is paid for twice
TRIAL = 32  # images of the proof, and on a CPU of a pass that is timed
HOPELESS = 3  # times the best: nobody waits for the rest of such a trial
FIRST, ROUGH = "; ", "bfloat16 first"  # what a choice with a rough copy ends with
STACKED, CAPTURED = "batch norm folded, members stacked", ", captured"
FEWER = 1.1  # by how much anything must beat stacked members on a GPU: their few launches leave the host time for more


@dataclass(frozen=True)
class Crafting:
    """What attacks are shown of an ensemble.

    Attributes
    ----------
    exact : Ensemble
        Equal to the original but for rounding.
    rough : Ensemble or None
        In reduced precision and much faster, to go first; None where there is none that pays.
    chosen : str
        What they are, in words.
    kept : str
        Why some members are attacked as they came; empty if none is.
    launched : str
        Why passes on a CUDA device are not captured and replayed; empty where they are, or would gain nothing.
    lasting : bool
        Whether it holds another time, too; not where memory ran out.
    """

    exact: Ensemble
    rough: Ensemble | None = None
    chosen: str = "as it is"
    kept: str = ""
    launched: str = ""
    lasting: bool = True


def prepare(ensemble: Ensemble, x: Tensor, speed: str = "auto", chosen: str = "", batch: int = 0) -> Crafting:
    """Return the fastest copies that are proven on x (B, C, H, W), images on the ensemble's device.

    Copies round differently, and a trial by the clock may choose another one tomorrow: who wants the same numbers again
    keeps ``chosen`` of the result and gives it back.

    Parameters
    ----------
    speed : {"off", "auto", "max"}
        ``off`` attacks the ensemble itself. ``auto`` tries layouts and bfloat16, a second or two. ``max`` also
        compiles, which takes a minute for each architecture and pays in long runs.
    chosen : str
        What an earlier trial chose; made again, if it still can be proven, without a trial.
    batch : int
        How many images the attacks will give a GPU at a time, which are what is timed there: of few images it waits
        for launches, of which stacked members have least. A CPU is timed on few.
    """
    if speed == "off":
        return Crafting(ensemble)
    with exactly(x.device):  # what cuDNN rounds to TF32 proves nothing
        try:
            return _chosen(ensemble, x[:TRIAL], speed, chosen, batch)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
    return Crafting(ensemble, kept="there is no memory for copies", lasting=False)


def _chosen(ensemble: Ensemble, x: Tensor, speed: str, chosen: str, batch: int) -> Crafting:
    folded, kept = _folded(ensemble, x)
    makers: dict[str, Callable[[], Ensemble]] = {
        "batch norm folded": lambda: folded,
        "batch norm folded, channels last": lambda: _channels_last(folded),
    }
    if x.device.type != "cpu":  # a CPU gains nothing: one member's convolutions fill it
        makers[STACKED] = lambda: _Stacked(folded)
    elif mergeable(folded.members):
        makers["batch norm folded, channels last, members merged"] = lambda: MergedEnsemble(_channels_last(folded))
    if speed == "max":
        makers["batch norm folded, channels last, compiled"] = lambda: _compiled(_channels_last(folded))
    before, _, first = chosen.partition(FIRST)
    before = before.removesuffix(CAPTURED)
    proven = {"as it is": ensemble}
    for name, make in makers.items():
        wanted = not before or name == before
        if wanted and (model := _proven(ensemble, make, x, exact=True)) is not None:
            proven[name] = model
    if before and before not in proven:
        return _chosen(ensemble, x, speed, "", batch)
    if before:
        name, limit = before, math.inf if first else 0.0
    else:
        times, x = _timed(proven, x if x.device.type == "cpu" else _repeated(x, max(batch, len(x))))
        name = min(times, key=lambda candidate: times[candidate] * (1 if candidate == STACKED else FEWER))
        limit = times[name]
    exact = proven[name]
    rough = _proven(ensemble, lambda: _Rough(exact), x[:TRIAL], exact=False) if limit else None
    if rough is not None and not math.isinf(limit) and not _pays(rough, x, limit):
        rough = None
    graphs, launched = _graphs(exact, x[:TRIAL])
    if graphs is not None:
        exact, rough, name = graphs, rough and captured.Captured(rough), name + CAPTURED
    return Crafting(exact, rough, name + (FIRST + ROUGH if rough is not None else ""), kept, launched)


def _graphs(exact: Ensemble, x: Tensor) -> tuple[Ensemble | None, str]:
    """Return an ensemble whose passes are CUDA graphs, or None and why it cannot be had; off CUDA without a word."""
    if x.device.type != "cuda":
        return None, ""
    try:
        return captured.proven(exact, x), ""
    except Exception as error:  # noqa: BLE001 - whatever a stranger's module, or a driver, raises in a capture
        return None, " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _repeated(x: Tensor, count: int) -> Tensor:
    """Return so many images: x again and again."""
    return x.repeat(-(-count // len(x)), 1, 1, 1)[:count]


def _pays(rough: Ensemble, x: Tensor, limit: float) -> bool:
    """Return whether a rough model is so much faster than the exact one, which takes ``limit`` seconds, as to go first.

    One that does not fit into memory where the exact one does is not.
    """
    try:
        return _seconds(rough, x, HOPELESS * limit) * WORTHWHILE < limit
    except RuntimeError as error:
        if out_of_memory(error):
            return False
        raise


def _timed(models: Mapping[str, Ensemble], x: Tensor) -> tuple[dict[str, float], Tensor]:
    """Return the seconds of each model, and the images that they are of: of as many as fit into memory for all."""
    while True:
        try:
            return {name: _seconds(model, x) for name, model in models.items()}, x
        except RuntimeError as error:
            if len(x) == 1 or not out_of_memory(error):
                raise
        x = x[: len(x) // 2]


@torch.no_grad()
def _proven(ensemble: Ensemble, make: Callable[[], Ensemble], x: Tensor, *, exact: bool) -> Ensemble | None:
    """Return a copy whose logits (exact) or predictions (not exact) are the original's, or None if it is not such."""
    before = ensemble.member_logits(x)
    try:
        model = make()
        after = model.member_logits(x)
        same_rule = same_logits(ensemble.fuse(before), model.fuse(before))  # a subclass may have a rule of its own
    except Exception:  # noqa: BLE001 - whatever a stranger's module raises when stacked, compiled or under autocast
        return None
    if not same_rule:
        return None
    if exact:
        return model if same_logits(before, after) else None
    same = float((before.argmax(2) == after.argmax(2)).float().mean())
    return model if bool(torch.isfinite(after).all()) and same >= AGREEMENT else None


def _seconds(model: Ensemble, x: Tensor, hopeless: float = math.inf) -> float:
    """Return the time of a forward pass with input gradient, in seconds."""

    def once() -> None:
        with torch.enable_grad():
            point = x.detach().requires_grad_(True)
            value = model(point).amax(1).sum()
            if value.requires_grad:  # a defence may cut the gradient off; its attacks then fail for all to see
                torch.autograd.grad(value, point, allow_unused=True)

    return fastest(once, x.device, hopeless=hopeless)


def fastest(
    function: Callable[[], object], device: torch.device, repeats: int = 3, hopeless: float = math.inf
) -> float:
    """Return the shortest time that a call takes, in seconds, after a call that is not counted.

    A call that takes longer than ``hopeless`` is the last (the first: three times as long, since it also warms up):
    bfloat16 is tens of times slower than float32 on a processor that cannot do it, and a trial should not wait.
    """
    times: list[float] = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
        if min(times[1:], default=times[0] / HOPELESS) > hopeless:
            break
    return min(times[1:] or times)


def _folded(ensemble: Ensemble, x: Tensor) -> tuple[Ensemble, str]:
    """Return a copy with batch norm folded into the convolutions, and which members could not be folded, and why.

    Folding saves the forward and the backward pass of every batch norm: a third of the time of a small ResNet. Members
    whose logits on x would differ by more than rounding are copied as they are, but for denormal weights.
    """
    members, kept = [], []
    for index, member in enumerate(ensemble.members):
        try:
            folded, reason = fold(member, x)
        except Exception as error:  # noqa: BLE001 - whatever a stranger's module raises
            folded, reason = None, type(error).__name__
        folded = copy.deepcopy(member) if folded is None else folded
        members.append(without_denormals(folded, member, x))
        kept += [f"member {index}: {reason}"] if reason else []
    return Ensemble(members, ensemble.rule).eval().requires_grad_(False), "; ".join(kept)


def _channels_last(ensemble: Ensemble) -> Ensemble:
    return copy.deepcopy(ensemble).to(memory_format=torch.channels_last)


def _compiled(ensemble: Ensemble) -> Ensemble:
    # Batches shrink as samples leave: sizes must stay free, or each of them would be compiled on its own.
    members: list[nn.Module] = [torch.compile(member, dynamic=True) for member in ensemble.members]  # type: ignore[misc]
    return Ensemble(members, ensemble.rule).eval()


class _Stacked(Ensemble):
    """Members of one architecture computed as one model of stacked weights: fewer, larger operations for a GPU."""

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__(list(ensemble.members), ensemble.rule)
        self._weights, self._buffers_stacked = torch.func.stack_module_state(list(ensemble.members))
        self.eval()

    def member_logits(self, x: Tensor) -> Tensor:
        """Return the logits of every member, (M, B, L)."""

        def one(weights: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
            z: Tensor = torch.func.functional_call(self.members[0], (weights, buffers), (x,))
            return z

        logits: Tensor = torch.func.vmap(one)(self._weights, self._buffers_stacked)
        return logits


class _Bfloat16(nn.Module):
    """A model whose convolutions and products are computed in bfloat16; images, logits and weights stay float32."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            z: Tensor = self.model(x)
        return z.float()


class _Rough(Ensemble):
    """An ensemble in bfloat16, computed in whatever way the exact one is."""

    def __init__(self, exact: Ensemble) -> None:
        # Weights that are stacked, and compiled code, stay as they are: autocast casts them in each pass.
        plain = type(exact) is Ensemble and not any(hasattr(m, "_orig_mod") for m in exact.members)
        own = cast(Ensemble, cast_once(exact)) if plain else exact
        super().__init__([_Bfloat16(member) for member in own.members], exact.rule)
        self._exact = own
        self.eval()

    def member_logits(self, x: Tensor) -> Tensor:
        """Return the logits of every member, (M, B, L)."""
        with torch.autocast(x.device.type, torch.bfloat16):
            logits = self._exact.member_logits(x)
        return logits.float()

"""Passes of an ensemble replayed as CUDA graphs, so that the host launches two things a pass instead of hundreds.

What a graph holds is fixed when it is captured: kernels, addresses and shapes. So there is one for each shape of the
images, of which :func:`robustkit.functional.batching.by_rows` makes few, and what goes in and out of it is copied.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from robustkit.ensembles.ensemble import Ensemble
from robustkit.ensembles.folding import same_logits

OFTEN = 3  # passes of a shape before it is captured, which takes as long as a few
WARM = 2  # passes before a capture, in which libraries make their choices and get their memory
SHAPES = 24  # at most, each of which keeps its images and their gradient in memory


class Captured(Ensemble):
    """An ensemble that attacks are shown, whose passes on a CUDA device are replayed; elsewhere it is what it is of.

    The logits and the gradient with respect to the images are those of the ensemble, and each is a new tensor. Only a
    first derivative can be taken, and the ensemble is frozen. A shape that cannot be captured is computed as before.
    Threads that use it side by side have passes of their own.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__(list(ensemble.members), ensemble.rule)
        self._ensemble = ensemble
        self._of_threads = threading.local()
        self.eval()

    @property
    def passes(self) -> _Passes:
        """What this thread has captured."""
        if not hasattr(self._of_threads, "passes"):
            self._of_threads.passes = _Passes()
        found: _Passes = self._of_threads.passes
        return found

    def member_logits(self, x: Tensor) -> Tensor:
        """Return the logits of every member, (M, B, L)."""
        shape, own = _shape(x), self.passes
        if shape not in own.of:
            own.seen[shape] += 1
            if x.device.type != "cuda" or own.seen[shape] < OFTEN or len(own.of) >= SHAPES:
                return self._ensemble.member_logits(x)
            try:
                self.capture(x)
            except RuntimeError:  # memory ran out, as a rule; without a graph it may be enough
                own.of[shape] = None
        found = own.of[shape]
        if found is None:
            return self._ensemble.member_logits(x)
        logits: Tensor = _Replay.apply(x, found) if found.backward else found.forward(x)
        return logits

    def capture(self, x: Tensor) -> None:
        """Capture the passes of images like x (B, C, H, W); whatever forbids it is raised."""
        own = self.passes
        if own.memory is None:
            own.memory = torch.cuda.graph_pool_handle()
        own.of[_shape(x)] = _Pass(self._ensemble, x, own.memory, own.turn)


def proven(ensemble: Ensemble, x: Tensor) -> Captured:
    """Return an ensemble, its passes captured and proven on x (B, C, H, W), images on a CUDA device.

    Raises
    ------
    RuntimeError
        If a pass cannot be captured, or if replayed with other images it does not give what the ensemble does.
    """
    made = Captured(ensemble)
    for backward in (False, True):
        with torch.set_grad_enabled(backward):
            made.capture(x.detach().requires_grad_(backward))
    for replayed, computed in zip(_numbers(made, x.flip(0)), _numbers(ensemble, x.flip(0)), strict=True):
        if not same_logits(replayed, computed):
            raise RuntimeError("replayed passes do not give the numbers of the ensemble")
    return made


def _numbers(ensemble: Ensemble, x: Tensor) -> list[Tensor]:
    """Return logits without and with a gradient, and two gradients of the latter pass."""
    with torch.no_grad():
        alone = ensemble.member_logits(x)
    with torch.enable_grad():
        point = x.detach().requires_grad_()
        logits = ensemble.member_logits(point)
        first, second = logits.amax(2).sum(), logits.amin(2).sum()
    (up,) = torch.autograd.grad(first, point, retain_graph=True)
    (down,) = torch.autograd.grad(second, point)
    return [alone, logits.detach(), up, down]


Shape = tuple[Any, ...]


def _shape(x: Tensor) -> Shape:
    """Return what the kernels of a pass depend on."""
    return (x.shape, x.stride(), x.dtype, _derived(x), torch.is_autocast_enabled(x.device.type))


def _derived(x: Tensor) -> bool:
    return torch.is_grad_enabled() and x.requires_grad


@dataclass
class _Passes:
    """What one thread has captured of an ensemble."""

    of: dict[Shape, _Pass | None] = field(default_factory=dict)  # None: it cannot be captured
    seen: Counter[Shape] = field(default_factory=Counter)
    turn: list[int] = field(default_factory=lambda: [0])  # how many forward passes, of all shapes
    memory: Any = None  # one pool for all shapes: what one pass leaves behind, the next may overwrite


class _Pass:
    """A forward pass on images of one shape and, where a gradient is asked for, a backward pass."""

    def __init__(self, ensemble: Ensemble, x: Tensor, memory: Any, turn: list[int]) -> None:
        self.turn, self.backward = turn, _derived(x)
        self._x = x.detach().clone().requires_grad_(self.backward)
        present, side = torch.cuda.current_stream(x.device), torch.cuda.Stream(x.device)  # type: ignore[no-untyped-call]
        side.wait_stream(present)
        with torch.cuda.stream(side):
            for _ in range(WARM):
                logits = ensemble.member_logits(self._x)
                if self.backward:
                    torch.autograd.grad(logits.sum(), self._x)
            self._pull = torch.zeros_like(logits)
        present.wait_stream(side)
        del logits
        self._ahead, self._back = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        # Another thread may be at work on another GPU, which a capture in the default mode forbids.
        with torch.cuda.graph(self._ahead, pool=memory, capture_error_mode="thread_local"):
            logits = ensemble.member_logits(self._x)
        if self.backward:
            with torch.cuda.graph(self._back, pool=memory, capture_error_mode="thread_local"):
                # Several gradients may be taken of one forward pass, so that what is read here must outlive it.
                (self._gradient,) = torch.autograd.grad(logits, self._x, self._pull, retain_graph=True)
        self._logits = logits.detach()

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of images, (M, B, L)."""
        self._x.copy_(x)
        self._ahead.replay()
        self.turn[0] += 1
        return self._logits.clone()

    @torch.no_grad()
    def gradient(self, pull: Tensor) -> Tensor:
        """Return the gradient of <pull, logits> with respect to the images that went forward last, (B, C, H, W)."""
        self._pull.copy_(pull)
        self._back.replay()
        return self._gradient.clone()


class _Replay(torch.autograd.Function):
    """What autograd sees of a replayed pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, one: _Pass) -> Tensor:
        ctx.save_for_backward(x)
        logits = one.forward(x)
        ctx.one, ctx.turn = one, one.turn[0]
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, pull: Tensor) -> tuple[Tensor, None]:
        if ctx.one.turn[0] != ctx.turn:  # another pass came between, and may have overwritten what this one left
            ctx.one.forward(ctx.saved_tensors[0])
            ctx.turn = ctx.one.turn[0]
        return ctx.one.gradient(pull), None

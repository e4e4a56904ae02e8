"""Seconds, memory, and what came out: the same stopwatch and the same judge for every implementation."""

from __future__ import annotations

import ctypes
import gc
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from _ours import Outcome
from _subject import Subject
from _workloads import BETA, Workload
from torch import Tensor
from torch.nn import functional

from robustkit.evaluation.scoring import score

STATM = Path("/proc/self/statm")
SAMPLING = 0.01  # seconds between two looks at the memory
BALL = 1e-5  # by which rounding may exceed eps


class TimeLimitError(BaseException):
    """The time that a peer may take is over; no ``except Exception`` of the peer's may swallow it."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise :class:`TimeLimitError` in the block after some seconds, where the platform has timers; 0: never."""
    if not seconds or not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise TimeLimitError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Memory:
    """By how many MiB the process grew at most within the block: resident set on a CPU, allocated on CUDA."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device if device.type == "cuda" else None
        self.grown = 0.0

    def __enter__(self) -> Memory:
        gc.collect()
        if self._cuda:
            torch.cuda.reset_peak_memory_stats(self._cuda)
            self._start = torch.cuda.memory_allocated(self._cuda)
            return self
        if sys.platform == "linux":  # what an earlier one freed must not be there for a later one to use unseen
            with suppress(OSError, AttributeError):  # not glibc
                ctypes.CDLL("libc.so.6").malloc_trim(0)
        self._start = self._peak = _resident()
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._cuda:
            peak = torch.cuda.max_memory_allocated(self._cuda)
        else:
            self._over.set()
            self._watcher.join()
            peak = max(self._peak, _resident())
        self.grown = (peak - self._start) / 2**20

    def _watch(self) -> None:
        while not self._over.wait(SAMPLING):
            self._peak = max(self._peak, _resident())


def _resident() -> int:
    """Return the resident set in bytes; where there is no /proc, its peak since the process began."""
    if STATM.exists():
        return int(STATM.read_text().split()[1]) * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def clock(device: torch.device) -> float:
    """Return the time, after everything queued on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def floor_pass(subject: Subject, gradient: bool) -> float:
    """Return the seconds of one pass of the plain model over all images: forward, and the input gradient."""
    device, model = subject.run_options.device, subject.ensemble
    batches = list(
        zip(*(torch.split(t, subject.run_options.batch_size) for t in (subject.x, subject.y)), strict=True)
    )  # fmt: skip
    started = clock(device)
    for x, y in batches:
        with torch.set_grad_enabled(gradient):
            point = x.requires_grad_(gradient)
            loss = functional.nll_loss(model(point), y)
            if gradient:
                torch.autograd.grad(loss, point)
    return clock(device) - started


def timed(craft: Callable[[], Outcome], device: torch.device, limit: float) -> tuple[Outcome, float, float]:
    """Return what was made, the seconds that it took, and the MiB by which the memory grew meanwhile."""
    with Memory(device) as memory, time_limit(limit):
        started = clock(device)
        outcome = craft()
        seconds = clock(device) - started
    return outcome, seconds, memory.grown


def judge(outcome: Outcome, subject: Subject, workload: Workload) -> dict[str, Any]:
    """Return the facts of what was made, scored by the untouched fp32 model; nothing is projected.

    The distance is over the images where the attack succeeded. A transfer matrix counts by its mean accuracy.
    """
    images = outcome.images.detach().float().cpu()
    x = subject.x.cpu()
    repeats = len(images) // len(x)
    origin, y = x.repeat(repeats, 1, 1, 1), subject.y.cpu().repeat(repeats)
    if images.shape != origin.shape:
        raise ValueError(f"images of shape {tuple(images.shape)} came back, not {tuple(origin.shape)}")
    scores = score(subject.ensemble, origin, images, subject.run_options.device)
    if not bool(torch.isfinite(images).all() & scores.finite.all()):
        raise FloatingPointError("pixels or outputs that are not finite came back")
    l0, l1, l2, linf = scores.sizes
    won = scores.prediction != y
    accuracy = float((~won).float().mean())
    if outcome.matrix:
        accuracy = sum(map(sum, outcome.matrix)) / len(outcome.matrix) ** 2
    size = {"linf": linf, "l2": l2, "en": l2.square() + BETA * l1, "count": l0 * subject.features}[workload.norm]
    outside = max(0.0, float(-images.min()), float(images.max()) - 1)
    return {
        "robust_accuracy": accuracy,
        "distance": _summary(size[won]) if workload.minimum else None,
        "max_linf": float(linf.max()),
        "outside_box": outside,
        "left_box": outside > BALL,
        "left_ball": workload.eps is not None and float(linf.max()) > workload.eps + BALL,
        "matrix": outcome.matrix,
        "errors": outcome.errors,
        "warnings": list(outcome.warnings),
    }


def _summary(size: Tensor) -> dict[str, float] | None:
    if not len(size):
        return None
    return {"mean": float(size.mean()), "median": float(size.median()), "images": len(size)}


def compare(results: list[dict[str, Any]], images: int, minimum: bool) -> dict[str, Any] | None:
    """Mark who is as successful as the first implementation, and say how many times as long the fastest peer takes.

    As successful: it stays in box and ball, its robust accuracy is at most one image higher, and a mean distance at
    most 1 % larger, then with no fewer successes. Where no peer is, the fastest of all stands there, and ``reached`` is
    False.
    """
    ours = next((r for r in results if r["ours"] and r["seconds"]), None)
    for r in results:
        r["as_successful"] = bool(ours and r["seconds"] and _as_successful(r, ours, images, minimum))
    peers = [r for r in results if not r["ours"] and r["seconds"]]
    if ours is None or not peers:
        return None
    able = [r for r in peers if r["as_successful"]]
    fastest = min(able or peers, key=lambda r: r["seconds"])
    return {
        "implementation": ours["implementation"],
        "peer": fastest["implementation"],
        "ratio": fastest["seconds"] / ours["seconds"],
        "reached": bool(able),
    }


def _as_successful(peer: dict[str, Any], ours: dict[str, Any], images: int, minimum: bool) -> bool:
    slack = 1e-6 + (0 if minimum else 1 / images)
    if peer["left_box"] or peer["left_ball"] or peer["robust_accuracy"] > ours["robust_accuracy"] + slack:
        return False
    if not minimum or ours["distance"] is None:
        return True
    return peer["distance"] is not None and peer["distance"]["mean"] <= 1.01 * ours["distance"]["mean"]

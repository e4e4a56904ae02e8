"""A trial of about a second: how long passes, steps and corruptions of the very models and images take here, now."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from robustkit.base.errors import RunError, UserError
from robustkit.base.parallel import run_all
from robustkit.corruptions._run import make
from robustkit.data import Dataset, Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.ensembles.fastpath import Crafting
from robustkit.evaluation.cell import RunOptions
from robustkit.records.cells import Spec
from robustkit.training.loop import Training
from robustkit.training.ranks import Ranks
from robustkit.training.spec import TrainSpec

STEPS = 12  # of a training at most
SECONDS = 0.7  # of steps, after the first
IMAGES = 256  # of a pass at most
FEW = 16  # images that are corrupted


@dataclass(frozen=True)
class Passes:
    """Seconds of wall time for each image, while all workers are busy: forward, with gradient, roughly, and scoring."""

    forward: float
    both: float
    rough: float
    score: float


class _EnoughError(Exception):
    """The trial has seen enough steps."""


def passes(ensemble: Ensemble, crafting: Crafting, split: Split, run_options: RunOptions) -> Passes:
    """Return what a pass of an image costs, measured on as many workers as will run."""
    most = min(IMAGES, len(split), run_options.batch(split.shape))
    x = split.batch(range(most))[1].to(run_options.device)
    workers = max(1, run_options.workers)
    parts = [x[: max(1, most // workers)]] * workers  # each computes with the threads that a worker has

    def timed(one: object) -> float:
        run_all(one, parts, workers)  # type: ignore[arg-type]
        best = []
        for _ in range(2):
            started = time.perf_counter()
            run_all(one, parts, workers)  # type: ignore[arg-type]
            _wait(run_options.device)
            best.append(time.perf_counter() - started)
        return sum(best) / len(best) / sum(map(len, parts))

    @torch.no_grad()
    def forward(part: Tensor) -> None:
        crafting.exact(part)

    def gradient(model: Ensemble, part: Tensor) -> None:
        with torch.enable_grad():
            point = part.detach().requires_grad_(True)
            value = model(point).amax(1).sum()
            if value.requires_grad:
                torch.autograd.grad(value, point, allow_unused=True)

    @torch.no_grad()
    def score(part: Tensor) -> None:
        ensemble(part)

    both = timed(functools.partial(gradient, crafting.exact))
    rough = timed(functools.partial(gradient, crafting.rough)) if crafting.rough is not None else both
    return Passes(timed(forward), both, rough, timed(score))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def steps(jobs: Sequence[tuple[TrainSpec, Dataset | None]], data: Dataset, run_options: RunOptions) -> list[float]:
    """Return the seconds of one step of each training, as many side by side as will run.

    The steps are those of the training itself; its ensemble is thrown away.
    """
    return run_all(lambda job: _step(job[0], data, job[1], run_options.device), list(jobs), run_options.workers)


def _step(spec: TrainSpec, data: Dataset, outliers: Dataset | None, device: torch.device) -> float:
    times: list[float] = []

    def look(_: object) -> None:
        times.append(time.perf_counter())
        if len(times) > STEPS or (len(times) > 2 and times[-1] - times[0] > SECONDS):
            raise _EnoughError

    training = Training(replace(spec), data, outliers, device, Ranks())
    try:
        training.epoch(look)
    except _EnoughError:
        pass
    except (RunError, UserError):  # what breaks so early breaks again in the run, which says how
        return 0.0
    if len(times) < 2:
        return 0.0
    return (times[-1] - times[0]) / (len(times) - 1)


def corrupting(specs: Sequence[Spec], split: Split, run_options: RunOptions) -> float:
    """Return the seconds that corrupting one image by every one of the specs takes, at one severity of each."""
    first = {spec.name: spec for spec in reversed(specs)}
    ids, x, _ = split.batch(range(min(FEW, len(split))))
    times: dict[str, float] = {}
    for name, spec in first.items():
        if "published" not in spec.params:
            make(spec, 0, ids[:1], x[:1], run_options.device)  # what it makes once for all images is not counted
            started = time.perf_counter()
            make(spec, 0, ids, x, run_options.device)
            times[name] = (time.perf_counter() - started) / len(x)
    return sum(times.get(spec.name, 0.0) for spec in specs)

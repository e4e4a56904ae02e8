"""robustkit's side: the product's own path, and the only place that knows how it is called."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from _subject import Subject
from _workloads import Workload
from torch import Tensor

from robustkit.ensembles import fastpath
from robustkit.evaluation.cell import run_cell
from robustkit.records.cells import Cell, Spec
from robustkit.records.samples import ERROR, Samples

SPEEDS = ("auto", "off", "max")  # what --speeds may name


@dataclass(frozen=True)
class Outcome:
    """What an implementation made: images (S * N, C, H, W), and for a transfer matrix its accuracies, (S, S)."""

    images: Tensor
    matrix: list[list[float]] | None = None
    errors: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Crafting:
    """What an evaluation makes once, before its first attack: the copy that attacks are shown."""

    speed: str
    made: fastpath.Crafting
    seconds: float
    note: str


def prepare(subject: Subject, speed: str) -> Crafting:
    """Make the crafting copy of ``--speed``, timed; an evaluation pays for it once, whatever the number of attacks."""
    started = time.perf_counter()
    together = min(subject.run_options.batch(subject.split.shape), len(subject.split))
    made = fastpath.prepare(subject.ensemble, subject.x[:64], speed, batch=together)
    note = made.chosen + (f" ({made.kept})" if made.kept else "")
    return Crafting(speed, made, time.perf_counter() - started, note)


def craft(crafting: Crafting, subject: Subject, workload: Workload) -> Outcome:
    """Run a workload as an evaluation does: craft, verify, score again with the untouched model."""
    sources = (
        [*(f"member-{i}" for i in range(len(subject.ensemble))), "ensemble"] if workload.transfer else ["ensemble"]
    )
    cells = [_cell(workload, source) for source in sources]
    runs = [
        run_cell(
            cell, subject.ensemble, subject.split, subject.clean, subject.run_options, crafting=crafting.made
        )
        for cell in cells
    ]  # fmt: skip
    samples = [run.samples for run in runs]
    return Outcome(
        images=torch.from_numpy(np.concatenate([s.examples for s in samples])),
        matrix=[_accuracies(s) for s in samples] if workload.transfer else None,
        errors=sum(int((s.status == ERROR).sum()) for s in samples),
        warnings=tuple(dict.fromkeys(w for run in runs for w in run.warnings)),
    )


def _cell(workload: Workload, source: str) -> Cell:
    return Cell(
        kind="transfer" if workload.transfer else "attack",
        ensemble="benchmark",
        data="benchmark",
        attack=Spec("attack", workload.attack, workload.params()),
        eps=workload.eps,
        norm={"en": "l1", "count": "l0"}.get(workload.norm, workload.norm),
        target="next-best" if workload.attack == "jsma" else "",
        source=source,
    )


def _accuracies(samples: Samples) -> list[float]:
    """Return the accuracy of every member and of the ensemble."""
    right = [*(samples.member_prediction == samples.y).mean(1), (samples.prediction == samples.y).mean()]
    return [float(value) for value in right]

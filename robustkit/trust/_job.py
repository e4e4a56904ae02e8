"""What a probe is given: the model, the first samples that it may look at, and means to attack them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from robustkit.data import Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.ensembles.fastpath import Crafting
from robustkit.evaluation.cell import RunOptions, broken, run_cell
from robustkit.evaluation.scoring import SCORE_BATCH
from robustkit.functional.batching import in_parts
from robustkit.functional.losses import cross_entropy, margin
from robustkit.functional.norms import random_start, steepest
from robustkit.functional.precision import exactly
from robustkit.functional.sampling import SampleGenerator
from robustkit.records.cells import Cell, Spec
from robustkit.records.samples import Samples
from robustkit.study.distortion import largest
from robustkit.trust._evidence import Bools

Value = TypeVar("Value")
OTHER_SEED = 1  # added to the seed: a probe that starts where the attack started is no second opinion


@dataclass(frozen=True)
class Job:
    """One probe at work.

    Attributes
    ----------
    ensemble : Ensemble
        The untouched model.
    craftings : callable
        From an ensemble's key to what attacks are shown of it; of this and of the others.
    split, clean
        The samples that are looked at, and how the model classifies them.
    """

    cell: Cell
    ensemble: Ensemble
    craftings: Callable[[str], Crafting]
    split: Split
    clean: Samples
    run_options: RunOptions

    @property
    def params(self) -> Mapping[str, Any]:
        """The settings of the probe."""
        return self.cell.attack.params if self.cell.attack else {}

    @property
    def eps(self) -> float:
        """The budget, in pixel units."""
        return self.cell.eps or 0.0

    @property
    def largest(self) -> float:
        """The size that no perturbation exceeds: 1, or in l2 the square root of the number of elements."""
        return largest(self.cell.norm, self.split.shape)

    @property
    def others(self) -> list[str]:
        """Keys of the other ensembles."""
        return list(self.params.get("others", ()))

    @cached_property
    def _batch(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.split.batch(torch.arange(len(self.split)))

    @property
    def ids(self) -> Tensor:
        """Identities of the samples, int64 (n,)."""
        return self._batch[0]

    @property
    def x(self) -> Tensor:
        """Images (n, C, H, W) in [0, 1], on the CPU."""
        return self._batch[1]

    @property
    def y(self) -> Tensor:
        """True labels, int64 (n,), on the CPU."""
        return self._batch[2]

    @cached_property
    def draws(self) -> SampleGenerator:
        """A random stream of its own for each sample."""
        return SampleGenerator(self.cell.seed + OTHER_SEED, self.ids, f"probe/{self.cell.name}")

    @torch.no_grad()
    def member_logits(self, x: Tensor) -> Tensor:
        """Return the untouched model's member logits (M, n, L)."""
        return torch.cat(self._in_parts(lambda part: self.ensemble.member_logits(part).float().cpu(), x), 1)

    @torch.no_grad()
    def outputs(self, x: Tensor) -> Tensor:
        """Return the untouched model's fused outputs (n, L)."""
        return torch.cat(self._in_parts(lambda part: self.ensemble(part).float().cpu(), x))

    def _in_parts(self, function: Callable[..., Value], *rows: Tensor) -> list[Value]:
        """Return what a function gives of rows on the device, so many at a time as are scored together and fit."""
        device = self.run_options.device
        with exactly(device):
            return in_parts(lambda p: function(*(r[p].to(device) for r in rows)), len(rows[0]), SCORE_BATCH)[0]

    def margins(self, x: Tensor) -> Tensor:
        """Return max_{i != y} z_i - z_y of the fused outputs of images (d, n, C, H, W), (d, n)."""
        return margin(self.outputs(x.flatten(0, 1)), self.y.repeat(len(x))).view(x.shape[:2])

    def gradient(self) -> Tensor | None:
        """Return the gradient (n, C, H, W) of the fused output's cross-entropy at x, None if there is none."""

        def part(x: Tensor, y: Tensor) -> Tensor | None:
            with torch.enable_grad():
                point = x.detach().requires_grad_(True)
                loss = cross_entropy(self.ensemble(point), y).sum()
            gradient = torch.autograd.grad(loss, point, allow_unused=True)[0] if loss.requires_grad else None
            return None if gradient is None else gradient.cpu()

        parts = self._in_parts(part, self.x, self.y)
        found = [gradient for gradient in parts if gradient is not None]
        return torch.cat(found) if len(found) == len(parts) else None

    def noisy(self, radius: float, draws: int) -> Iterator[Tensor]:
        """Yield x with noise drawn uniformly from the ball of that radius, in parts (d, n, C, H, W) of all draws."""
        for count in self._parts(draws):
            yield torch.stack([random_start(self.x, radius, self.cell.norm, self.draws) for _ in range(count)])

    def edge(self, draws: int) -> Iterator[Tensor]:
        """Yield random points at the edge of the ball, x +- eps or eps away in l2, in parts (d, n, C, H, W)."""
        for count in self._parts(draws):
            noise = torch.stack([self.draws.normal(self.x.shape[1:]) for _ in range(count)])
            direction = steepest(noise.flatten(0, 1), self.cell.norm).view_as(noise)
            yield (self.x + self.eps * direction).clamp(0.0, 1.0)

    def _parts(self, draws: int) -> Iterator[int]:
        """Yield counts of draws whose images fill a batch: few samples, many draws at a time."""
        most = max(1, SCORE_BATCH // max(1, len(self.x)))
        yield from (min(most, draws - done) for done in range(0, draws, most))

    def attack(self, eps: float) -> Spec:
        """Return the attack that the probe is about; a step size that was set grows with the budget."""
        spec = Spec.from_json(self.params["attack"])
        step = spec.params.get("step_size")
        scaled = {"step_size": step * eps / self.eps} if step and self.eps else {}
        return replace(spec, params={**spec.params, **scaled})

    def select(self, rows: npt.NDArray[np.int64]) -> Job:
        """Return the same job on some of its samples."""
        return replace(self, split=self.split.select(torch.from_numpy(rows)), clean=self.clean.select(rows))

    def broken_by(
        self, spec: Spec, *, eps: float | None = None, source: str | None = None, ensemble: Ensemble | None = None
    ) -> Bools:
        """Return which samples (n,) an attack breaks, checked and scored as ever.

        Parameters
        ----------
        source : str or None
            Key of the ensemble that the attack is shown; None: this one.
        ensemble : Ensemble or None
            Attacked and scored instead of the real one.
        """
        params = dict(spec.params)
        cell = Cell(
            "attack" if source is None else "transfer", source or self.cell.ensemble, self.cell.data,
            replace(spec, params=params), self.eps if eps is None else eps, self.cell.norm,
            seed=self.cell.seed + OTHER_SEED, backend=spec.name.rpartition(":")[0] or "native",
            version=self.cell.version, eot=params.pop("eot", self.cell.eot),
        )  # fmt: skip
        run_options = replace(self.run_options, keep_examples=False)
        if ensemble is None:
            scored, crafting, clean = self.ensemble, self.craftings(source or self.cell.ensemble), self.clean
        else:
            bare = Cell("clean", "planted", self.cell.data, version=self.cell.version)
            scored, crafting = ensemble, Crafting(ensemble)
            clean = run_cell(bare, scored, self.split, None, run_options).samples
        return broken(run_cell(cell, scored, self.split, clean, run_options, crafting=crafting).samples, targeted=False)


def apart(a: Tensor, b: Tensor) -> Tensor:
    """Return by how much two outputs differ, elementwise; equal infinities, and NaN twice, do not differ."""
    equal = (a == b) | (a.isnan() & b.isnan())
    return torch.where(equal, 0.0, (a - b).abs()).nan_to_num(nan=torch.inf, posinf=torch.inf)

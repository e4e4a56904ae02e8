"""How many passes the attacks of a plan take: counted on few images, guessed where there is no model to attack yet."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from robustkit.attacks import is_minimum
from robustkit.base.errors import RunError, UserError
from robustkit.data import Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.ensembles.fastpath import Crafting
from robustkit.evaluation.cell import PROBE, RunOptions, broken, run_cell
from robustkit.records.cells import Cell
from robustkit.records.samples import Samples
from robustkit.study.plan import Study

FULL = 2  # images on which all steps of an attack are counted ...
LONGEST = {"steps": 10, "restarts": 1, "queries": 50}  # ... of a longer one so many, times what is left out
MOST, SLOW = 24, 10  # images on which it is counted when it stops; of a slow model fewer
SLOWLY = 5e-4  # seconds of a pass of an image from which on a model is slow
PILOT = 8.0  # seconds that all pilots together may take on a busy machine; alone a second or two
EARLY = 0.3  # share of its steps that an attack takes on an image that it breaks
LAST = 700.0  # forward and backward passes of `recombine`, an image that stands: most are given up


@dataclass(frozen=True)
class Count:
    """Forward and backward passes for each image of the split."""

    forwards: float
    backwards: float

    def __add__(self, other: Count) -> Count:
        return Count(self.forwards + other.forwards, self.backwards + other.backwards)

    def times(self, factor: float) -> Count:
        """Return so many times the passes."""
        return Count(self.forwards * factor, self.backwards * factor)


def standing(eps: float, largest: float, power: float = 1.0) -> float:
    """Return the share of images that a guess says an attack leaves standing, for budgets up to the largest usual."""
    return max(0.02, min(0.97, 1.2 - 1.15 * eps / largest)) ** power if largest else 1.0


def full(cell: Cell, ensemble: Ensemble, split: Split, clean: Samples, run_options: RunOptions) -> Count:
    """Return the passes of an attack that never stops early: counted on two images, of a long one in part."""
    params = dict(cell.attack.params) if cell.attack else {}
    shorter = {name: min(most, params[name]) for name, most in LONGEST.items() if isinstance(params.get(name), int)}
    factor = math.prod(params[name] / count for name, count in shorter.items())
    spec = replace(cell.attack, params={**params, **shorter}) if cell.attack else None
    one = replace(cell, kind="transfer", after="", attack=spec)
    few = split.take(FULL)
    samples = _run(one, ensemble, Crafting(ensemble), few, clean.select(slice(0, len(few))), run_options)
    if samples is None:
        steps = float(params.get("steps", params.get("queries", 10))) * float(params.get("restarts", 1))
        return Count(steps, steps if "steps" in params else 0.0)
    return Count(float(samples.forwards.mean()), float(samples.backwards.mean())).times(factor)


def guessed(chain: Iterable[Cell], study: Study, cost: Count, n: int, largest: float) -> Count:
    """Return the passes of the cells of one attack at ascending eps, on a model that nobody has attacked yet."""
    total, alive = Count(0.0, 0.0), 0.95
    for cell in chain:
        if cell.kind == "transfer" or cell.eps is None or is_minimum(cell.name):
            total += cost
            continue
        after = min(alive, standing(cell.eps, largest, power=2.0 if cell.name == "quorum" else 1.0))
        again = min(PROBE, n * (0.95 - alive)) / n if cell.after else 0.0
        total += cost.times(after + EARLY * (alive - after + again))
        alive = after if study.eot == 1 else 0.95
    return total


class Pilot:
    """Attacks a few images of a model that is there, as the run will, and counts."""

    def __init__(
        self,
        ensemble: Ensemble,
        crafting: Crafting,
        split: Split,
        clean: Samples,
        run_options: RunOptions,
        seconds: float,
        one: float,
    ) -> None:
        self.ensemble, self.crafting, self.split, self.clean = ensemble, crafting, split, clean
        self.run_options, self.most = run_options, SLOW if one > SLOWLY else MOST
        self.until = time.perf_counter() + seconds
        self.left: dict[tuple[str, float], float] = {}  # by budget: the share that the strongest of those counted left

    def count(self, chain: Iterable[Cell]) -> Count | None:
        """Return the passes of the cells of one attack at ascending eps; None where the time is used up."""
        n = len(self.split)
        few = self.split.take(min(self.most, n))
        total, lost = Count(0.0, 0.0), np.zeros(len(few), np.bool_)
        for cell in chain:
            if time.perf_counter() > self.until:
                return None
            alone = replace(cell, after="")
            samples = _run(
                alone, self.ensemble, self.crafting, few, self.clean.select(slice(0, len(few))), self.run_options
            )
            if samples is None:
                return None
            total += _of(samples, lost if cell.after else np.zeros_like(lost), n)
            lost = lost | broken(samples, cell.targeted)
            if cell.eps is not None and not cell.targeted:
                budget, left = (cell.norm, cell.eps), float(np.where(lost, 0.0, samples.correctness).mean())
                self.left[budget] = min(self.left.get(budget, 1.0), left)
        return total


def _of(samples: Samples, lost: npt.NDArray[np.bool_], n: int) -> Count:
    """Return the passes an image where those that a smaller eps broke are not attacked, but for the first 64."""
    share = np.where(lost, min(1.0, PROBE / max(1.0, float(lost.mean()) * n)), 1.0)
    return Count(float((samples.forwards * share).mean()), float((samples.backwards * share).mean()))


def _run(
    cell: Cell, ensemble: Ensemble, crafting: Crafting, split: Split, clean: Samples, run_options: RunOptions
) -> Samples | None:
    """Run a cell on few images; None where it cannot be run, which the run itself will say."""
    quiet = replace(run_options, keep_examples=False, workers=1)
    try:
        return run_cell(cell, ensemble, split, clean, quiet, crafting=crafting).samples
    except (UserError, RunError, ValueError):
        return None

"""Searches of the EdgeNES paper: its settings, the small ones, and architectures that are trained from scratch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from robustkit import api
from robustkit.base import options, paths
from robustkit.base.errors import UserError
from robustkit.base.version import __version__
from robustkit.ensembles.ensemble import Ensemble
from robustkit.models._genotype import Genotype
from robustkit.pipeline import models_under_test
from robustkit.records.cells import Spec, digest
from robustkit.reproduce._lab import Lab
from robustkit.reproduce._parts import Comparison, Images, Spread
from robustkit.reproduce._recipes import SHAPES, TRAINING_IMAGES
from robustkit.search import edgenes, method
from robustkit.search._around import Around
from robustkit.search._lab import SearchLab, found
from robustkit.search._space import Space
from robustkit.training.spec import settings
from robustkit.training.step import generator_of
from robustkit.training.untrained import accuracies

DRAWN = 50_000  # first stream of the architectures that are drawn, one for each lambda
IMAGES = Images(10_000, 10_000, stated=False)
# Sections 3.1 and 4: 50 epochs of DARTS, 150 of the hypernetwork with one lambda a step, 50 of retraining.
PAPER: Mapping[str, Any] = {
    "epochs": 50, "hyper_share": 3.0, "draws": 1, "hyper_lr": 0.02, "lr": 0.025, "architecture_lr": 0.02, "pivots": 5,
    "margin": 0.2, "nodes": 6, "cells": 2,
}  # fmt: skip
SMALL: Mapping[str, Any] = {"epochs": 6, "hyper_share": 2.0, "draws": 32, "hyper_lr": 0.1}
RETRAINING: Mapping[str, Any] = {"epochs": 50, "lr": 0.025, "optimiser": "adam", "schedule": "cosine"}
SMALL_RETRAINING: Mapping[str, Any] = {"epochs": 8}
# Parameters of the search for the optimum, and of the candidates; the others are the hypernetwork's.
OPTIMUM = ("epochs", "nodes", "batch_size", "lr", "architecture_lr", "partial", "width")
CHOICE = ("candidates", "lam", "cells")
AFTERWARDS = ("training", "choice")  # phases of a whole search that come after it


@dataclass(frozen=True)
class Runs:
    """How many repetitions there are: in the paper (None where it does not say), and in the small budget."""

    paper: int | None
    small: int


class Searches:
    """The searches of one reproduction, with what differs from the paper's noted in its lab.

    Attributes
    ----------
    params : dict
        Of the method ``edgenes``: the scale's, but what ``--set`` says.
    training : dict
        Fields of the training from scratch: the scale's, but what ``--set train`` and ``--epochs`` say.
    seeds : list of int
        One for each run.
    """

    def __init__(self, lab: Lab, runs: Runs) -> None:
        name = lab.ask.entry.name
        if lab.ask.arch is not None:
            raise UserError(
                f"--arch {lab.ask.arch} has no effect on {name}, which searches architectures; leave it out."
            )
        small = lab.ask.scale == "small"
        asked = lab.ask.settings
        self.lab = lab
        self.params = options.resolve(
            method.entry("edgenes"), {**PAPER, **(SMALL if small else {}), **asked.get("edgenes", {})}
        )
        own = {"epochs": lab.ask.epochs} if lab.ask.epochs is not None else {}
        self.training = {
            **RETRAINING, **(SMALL_RETRAINING if small else {}), **settings(asked.get("train", {})), **own
        }  # fmt: skip
        count = runs.small if small or runs.paper is None else runs.paper
        self.seeds = [lab.ask.seed + at for at in range(count)]
        for setting, paper, ours in self._compared(runs):
            lab.note(setting, paper, ours)

    @cached_property
    def space(self) -> Space:
        """The space that is searched."""
        return Space(self.params["nodes"])

    def _compared(self, runs: Runs) -> list[tuple[str, Any, Any]]:
        lab, here = self.lab, self.training
        return [
            ("dataset", lab.stands_for, lab.ask.dataset),
            ("image shape (C, H, W)", SHAPES[lab.stands_for], list(lab.data.shape)),
            ("training images", TRAINING_IMAGES, lab.train_images),
            ("runs", "not stated" if runs.paper is None else runs.paper, len(self.seeds)),
            *((f"edgenes.{name}", value, self.params[name]) for name, value in PAPER.items()),
            *((f"retraining: {name}", value, here[name]) for name, value in RETRAINING.items()),
            ("retraining: betas of Adam", [0.5, 0.9], [0.9, 0.999]),
        ]

    def around(self, seed: int, **changes: Any) -> Around:
        """Return a trained hypernetwork around the optimum of a seed; ``changes`` are parameters of its own.

        What is searched is kept in the cache, as trained ensembles are, for all reproductions that ask for it.
        """
        lab, params = self.lab, {**self.params, **changes}
        asked = {
            "params": {name: params[name] for name in OPTIMUM}, "seed": seed, "version": __version__,
            "data_sha256": lab.data.split("train").sha256(),
        }  # fmt: skip
        searching = SearchLab(
            lab.data, members=1, seed=seed, device=lab.device, folder=paths.cache_dir() / "searches" / digest(asked),
            reporter=lab.reporter, asked=asked,
        )  # fmt: skip
        own = {name: value for name, value in params.items() if name not in (*OPTIMUM, *CHOICE)}
        return edgenes.trained(
            searching, name=f"hypernetwork-{digest(own)[:7]}", **{name: params[name] for name in OPTIMUM}, **own
        )

    def retrained(self, genotype: Genotype, seed: int) -> Ensemble:
        """Return the network of an architecture, trained from scratch or from the cache, as an ensemble of one."""
        one = found("", genotype, cells=self.params["cells"], width=self.params["width"])
        fields = {**self.training, "arch": one.arch, "arch_params": one.arch_params, "members": 1}
        spec = models_under_test.train_spec(Spec("defense", "baseline", {}), self.lab.data, fields, seed=seed)
        return models_under_test.trained(spec, self.lab.data, self.lab.device, self.lab.reporter)[1]

    def searched(self, name: str, members: int, seed: int, folder: str, **changes: Any) -> dict[str, Any]:
        """Search with a method by ``api.search``, below the lab's folder, and return what ``search.json`` holds.

        ``changes`` are parameters of the method that are not those of all.
        """
        lab, known = self.lab, {param.name for param in method.entry(name).params}
        params = {k: v for k, v in {**self.params, **changes}.items() if k in known and v is not None}
        given = {f"{name}.{k}": v for k, v in params.items()}
        given |= {f"train.{k}": v for k, v in self.training.items() if k != "epochs"}
        return api.search(
            name, dataset=lab.ask.dataset, data_dir=lab.ask.data_dir, members=members, epochs=self.training["epochs"],
            settings=given, seed=seed, device=lab.ask.device, workers=lab.ask.workers, reporter=lab.reporter,
            out=lab.out / "searches" / folder,
        )  # fmt: skip

    def accuracy(self, ensemble: Ensemble) -> float:
        """Return the accuracy of an ensemble on the test images, in percent."""
        test = self.lab.data.split("test")
        return 100 * accuracies(ensemble, test.take(min(len(test), self.lab.count(IMAGES))))[0]

    def accuracy_at(self, around: Around, lam: float, seed: int, draw: int = 0) -> float:
        """Return the accuracy of an architecture that is drawn at a lambda and trained from scratch, in percent."""
        drawn = around.sample(lam, generator_of(seed, DRAWN + round(1000 * lam), draw))
        return self.accuracy(self.retrained(drawn, seed + 1000 * draw))


def search_seconds(record: Mapping[str, Any]) -> float:
    """Return the seconds of a whole search without training from scratch, of what ``search.json`` holds."""
    return float(sum(cost["seconds"] for name, cost in record["costs"].items() if name not in AFTERWARDS))


def compared(row: str, column: str, ours: Sequence[float], paper: Spread | None, unit: str = "%") -> Comparison:
    """Return a mean over runs and its standard deviation beside the paper's."""
    deviation = float(np.std(ours, ddof=1)) if len(ours) > 1 else None
    mean, spread = paper if paper else (None, None)
    return Comparison(row, column, float(np.mean(ours)), mean, unit, spread=spread, own_spread=deviation)

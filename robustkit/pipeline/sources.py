"""Where the models of an evaluation come from: folders with their records, defences to train, or the caller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from robustkit.base import options
from robustkit.base.files import listed
from robustkit.ensembles import pool as pools
from robustkit.ensembles.checkpoint import read_meta
from robustkit.pipeline import models_under_test
from robustkit.pipeline.models_under_test import ModelUnderTest, Surrogate
from robustkit.pipeline.request import Request, beside_baseline
from robustkit.records.cells import Spec
from robustkit.study.config import EvaluateConfig, Evaluation
from robustkit.study.evaluation_data import EvaluationData


@dataclass(frozen=True)
class OutsideModels:
    """Models that are neither trained here nor robustkit's checkpoints.

    Attributes
    ----------
    models : sequence of ModelUnderTest
        What is evaluated.
    facts : sequence of mapping
        What is known of each member, for the report.
    surrogates : sequence of Surrogate
        Independent models, a row each in the transfer matrices.
    asked : Evaluation or None
        What the user said, where the configuration holds what was loaded for it: commands are made of that.
    spent : float
        Seconds that it took to find out how to run them.
    """

    models: Sequence[ModelUnderTest]
    facts: Sequence[Mapping[str, Any]]
    surrogates: Sequence[Surrogate] = ()
    asked: Evaluation | None = None
    spent: float = 0.0


@dataclass(frozen=True)
class Sources:
    """Where the models come from: folders with their records, or defences to train, or the caller."""

    pool: pools.Pool | None
    folders: tuple[Path, ...]
    metas: tuple[Mapping[str, Any], ...]
    defenses: tuple[Spec, ...]
    outside: OutsideModels
    seeds: tuple[int, ...] = ()
    seed: int = 0

    @classmethod
    def of(cls, config: Evaluation, request: Request, outside: OutsideModels | None) -> Sources:
        """Read the records of checkpoints; a UserError says what is wrong with one."""
        if not isinstance(config, EvaluateConfig):
            return cls(None, (), (), (), outside or OutsideModels((), ()))
        pool = None
        if config.pool:
            pool = pools.find(listed(config.pool), config.subset_size, config.pool_attribution)
        folders = tuple(pool.folders if pool else listed(config.checkpoint))
        defenses = beside_baseline(request.defenses) if config.baseline and not folders else request.defenses
        return cls(
            pool, folders, tuple(map(read_meta, folders)), defenses, outside or OutsideModels((), ()),
            () if config.seeds is None else options.seeds(config.seeds), config.seed,
        )  # fmt: skip

    @property
    def trainings(self) -> list[tuple[Spec, int]]:
        """What is trained, each defence with each seed."""
        return [(one, seed) for one in self.defenses for seed in self.seeds or (self.seed,)]

    @property
    def groups(self) -> list[tuple[str, int | None]]:
        """What the models that differ in nothing but the seed are called, and the seed; nothing without several."""
        if not self.seeds:
            return [("", None)] * len(self.ids)
        names = models_under_test.distinct(one.name for one in self.defenses)
        return [(name, seed) for name in names for seed in self.seeds]

    @property
    def ids(self) -> list[str]:
        """What each model is called."""
        named = [record.id for record, _ in self.outside.models] or [*map(models_under_test.name_of, self.metas)]
        if named or not self.seeds:
            return models_under_test.distinct(named or [one.name for one in self.defenses])
        return [f"{name}-seed{seed}" for name, seed in self.groups]

    def fusions(self, fusion: str | None) -> dict[str, str]:
        """Return the fusion rule of each model."""
        own = [record.fusion for record, _ in self.outside.models] or [str(meta["fusion"]) for meta in self.metas]
        if not self.outside.models and fusion is not None:
            own = [fusion] * len(self.ids)
        own = own or [models_under_test.fusion_of(one.name) for one, _ in self.trainings]
        return dict(zip(self.ids, own, strict=True))

    def outputs(self, data: EvaluationData) -> dict[str, int]:
        """Return the number of classes that each model answers in, of one from outside by an answer of it."""
        own = [len(meta["classes"]) for meta in self.metas]
        for _, ensemble in self.outside.models:
            device = next((tensor.device for tensor in ensemble.parameters()), torch.device("cpu"))
            with torch.no_grad():
                own.append(ensemble(data.split.batch(range(1))[1].to(device)).shape[1])
        return dict(zip(self.ids, own or [len(data.dataset.classes)] * len(self.ids), strict=True))

    @property
    def known(self) -> list[Mapping[str, Any]]:
        """What is known of the training data of every model that is not trained here."""
        return [*self.metas, *({} for _ in self.outside.models), *(data for *_, data in self.outside.surrogates)]

"""An independent model beside the audited one: robustkit's baseline. What fools it is tried on the other, too."""

from __future__ import annotations

from pathlib import Path

import torch

from robustkit.base import options
from robustkit.base.progress import Reporter
from robustkit.data import Dataset
from robustkit.ensembles.checkpoint import read_meta
from robustkit.pipeline import models_under_test
from robustkit.pipeline.models_under_test import Surrogate
from robustkit.records.cells import Spec
from robustkit.study.config import AuditConfig
from robustkit.training import spec as trainspec

TRAIN = "train"  # rather than a folder


def check(surrogate: str | Path) -> None:
    """Raise a :class:`UserError` if the folder is no checkpoint."""
    if surrogate != TRAIN:
        read_meta(surrogate)


def surrogate_of(config: AuditConfig, loaded: Dataset, device: torch.device, reporter: Reporter) -> Surrogate:
    """Return the independent model: one trained on the data (or from the cache), or the folder that one lies in.

    ``train`` is the plain ensemble of the dataset's recipe, the same that ``robustkit evaluate`` trains, with what
    ``settings`` say of the training. Else a folder that ``robustkit train`` wrote, whatever its defence.
    """
    if config.surrogate is None:
        raise ValueError("no surrogate is asked for")
    if config.surrogate != TRAIN:
        meta = read_meta(config.surrogate)
        return *models_under_test.from_checkpoint(config.surrogate, meta, None, None, loaded), meta
    training = trainspec.settings(options.assignments(config.settings).get("train", {}))
    plain = Spec("defense", "baseline", {})
    spec = models_under_test.train_spec(plain, loaded, training, speed=config.speed, seed=config.seed)
    data = {"name": loaded.name, "sha256": spec.data_sha256}
    return *models_under_test.trained(spec, loaded, device, reporter), {"data": data}

"""What a training starts from: untrained members, what a defence trains along, outliers; and how it is scored."""

from __future__ import annotations

import importlib

import torch
from torch import Tensor, nn

from robustkit import models
from robustkit.base.errors import UserError
from robustkit.base.parallel import seeded
from robustkit.data import Dataset, Split
from robustkit.defenses import Method
from robustkit.ensembles.ensemble import Ensemble, Member
from robustkit.functional.sending import sent
from robustkit.training import forward
from robustkit.training.samples import Samples
from robustkit.training.spec import TrainSpec


def initialise(spec: TrainSpec, data: Dataset) -> Ensemble:
    """Build the untrained ensemble; each member's weights depend on the seed and its index alone."""
    channels = data.shape[0]
    members = []
    for index in range(spec.members):
        with seeded(spec.seed * 1_000_003 + index):
            network = models.build(spec.arch, channels, len(data.classes), spec.arch_params)
        members.append(Member(network, [0.0] * channels, [1.0] * channels))
    return Ensemble(members, spec.fusion)


def outlier_samples(outliers: Dataset | None, data: Dataset, device: torch.device) -> Samples:
    """Return the training images of the outliers; a :class:`UserError` if there are none, or of another shape."""
    return Samples.of(check_outliers(outliers, data).split("train"), device)


def check_outliers(outliers: Dataset | None, data: Dataset) -> Dataset:
    """Return the outliers; a :class:`UserError` if there are none, or of another shape than the data."""
    if outliers is None:
        raise UserError(
            "the defence trains on outliers; name a dataset of them, like --set sdde-ood.outliers=npz:x.npz."
        )
    if outliers.shape != data.shape:
        raise UserError(
            f"outlier dataset '{outliers.name}' has images of shape {outliers.shape}, but '{data.name}' has "
            f"{data.shape}; give outliers of the same shape."
        )
    return outliers


def companion_of(method: Method, ensemble: Ensemble, spec: TrainSpec, classes: int) -> nn.Module | None:
    """Build the module that a defence trains along, or None; its weights depend on the seed alone."""
    if "companion" not in method.facts:
        return None
    features = [forward.last_linear(member).in_features for member in ensemble.members]
    build = getattr(importlib.import_module(method.module), method.facts["companion"])
    with seeded(spec.seed * 1_000_003 + spec.members):
        companion: nn.Module = build(features, classes)
    return companion


@torch.no_grad()
def accuracies(ensemble: Ensemble, split: Split, batch_size: int = 512) -> tuple[float, list[float]]:
    """Return the accuracy of the fused output and of each member on a split; leaves the mode as it was."""
    device = next(ensemble.parameters()).device
    was_training = ensemble.training
    ensemble.eval()
    right = torch.zeros(1 + len(ensemble), dtype=torch.int64, device=device)
    for rows in torch.split(torch.arange(len(split)), batch_size):
        _, x, y = split.batch(rows)
        x, y = sent(x, device).contiguous(memory_format=torch.channels_last), sent(y, device)
        logits: Tensor = ensemble.member_logits(x)
        answers = torch.cat([ensemble.fuse(logits).argmax(1)[None], logits.argmax(2)])
        right += (answers == y).sum(1)
    ensemble.train(was_training)
    fused, *own = (count / len(split) for count in right.tolist())  # the only wait for a GPU
    return fused, own

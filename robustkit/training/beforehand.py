"""What a training would refuse, found before any of several begins."""

from __future__ import annotations

from dataclasses import replace

import torch

from robustkit import defenses
from robustkit.base.errors import UserError
from robustkit.data import Dataset
from robustkit.ensembles.ensemble import Ensemble
from robustkit.functional.attribution import check_maps, evaluating
from robustkit.training import forward
from robustkit.training.spec import TrainSpec
from robustkit.training.stages import check_stages
from robustkit.training.untrained import check_outliers, initialise


def check_training(spec: TrainSpec, data: Dataset, outliers: Dataset | None = None) -> None:
    """Raise a :class:`UserError` if a defence does not fit the members, classes, architecture, images or outliers.

    One untrained member answers to one image; nothing is trained.
    """
    defenses.check(spec.defense.name, spec.defense.params, spec.members, len(data.classes))
    method = defenses.method(spec.defense.name, spec.defense.params)
    check_stages(spec, method)
    needs = method.facts.get("needs", ())
    if "outliers" in needs:
        check_outliers(outliers, data)
    untrained = initialise(replace(spec, members=1, fusion=TrainSpec.fusion), data)
    x = data.split("train").batch(range(1))[1]
    _check_answers(untrained, spec, x, len(data.classes))
    if "maps" in needs and method.params.get("maps") != "saliency":  # input gradients need no convolution
        check_maps(untrained.members, x, str(method.params.get("layer", "")))
    if "features" in needs or "companion" in method.facts:
        forward.last_linear(untrained.members[0])


@torch.no_grad()
def _check_answers(untrained: Ensemble, spec: TrainSpec, x: torch.Tensor, classes: int) -> None:
    shape = "x".join(map(str, x.shape[1:]))
    try:
        with evaluating(untrained):
            z = untrained.members[0](x)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"architecture '{spec.arch}' cannot be run on images of {shape} ({reason}); name another with --arch, or "
            "another --image-size where the dataset takes one."
        ) from None
    if not isinstance(z, torch.Tensor) or z.shape != (1, classes):
        what = f"shape {tuple(z.shape)}" if isinstance(z, torch.Tensor) else f"a {type(z).__name__}"
        raise UserError(
            f"architecture '{spec.arch}' answers to one image with {what}, not with logits of shape (1, {classes}); "
            "name another with --arch."
        )

"""Where the members look: cosines between their maps, variance of their attributions, and a few maps to show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from robustkit.base.errors import UserError
from robustkit.base.progress import Advance
from robustkit.data import Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.evaluation.cell import RunOptions
from robustkit.functional.attribution import gradcam, integrated_gradients, saliency
from robustkit.functional.batching import in_parts, of_the_device
from robustkit.functional.precision import exactly
from robustkit.functional.sending import sent
from robustkit.metrics.maps import map_variance, pair_cosines

Arrays = dict[str, npt.NDArray[Any]]
Maps = list[Tensor | None]  # of each member (B, h, w), None where it has none


def attributions(
    ensemble: Ensemble, split: Split, asked: Mapping[str, Any], run_options: RunOptions, advance: Advance
) -> Arrays:
    """Return what the members' maps of the first samples of a split say, a row for each, and the maps of a few.

    All maps are of the class that the ensemble predicts: at deployment there is no other label, and members that are
    asked about different classes would differ for that alone.

    Returns
    -------
    dict of array
        ``label`` (n,); ``saliency-cosine`` (n, P) and, where the members have maps of one size, ``gradcam-cosine``;
        ``saliency-variance``, ``integrated-variance`` and both with ``-normalised`` (n,); ``map-sizes`` (M, 2), 0
        where a member has no map; of the first few ``shown`` (G, C, H, W), ``shown-saliency`` (G, M, H, W) and
        ``shown-gradcam-I`` (G, h, w) of each member that has maps. Where a member has no gradient, ``error`` alone.
    """
    try:
        with exactly(run_options.device):
            return _all(ensemble, split, asked, run_options, advance)
    except RuntimeError as error:  # autograd's word for a member that it cannot go through; other measures remain
        if of_the_device(error):
            raise
        return {"error": np.array(str(error).splitlines()[0].rstrip("."))}


def _all(
    ensemble: Ensemble, split: Split, asked: Mapping[str, Any], run_options: RunOptions, advance: Advance
) -> Arrays:
    shown = asked["shown"] if run_options.keep_examples else 0

    def one(part: slice) -> Arrays:
        _, x, _ = split.batch(range(part.start, part.stop))
        found = _batch(ensemble, sent(x, run_options.device), asked["steps"], max(0, shown - part.start))
        advance(len(x))
        return found

    parts, _ = in_parts(one, asked["samples"], run_options.batch(split.shape))
    sizes = parts[0].pop("map-sizes")
    for part in parts[1:]:
        del part["map-sizes"]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} | {"map-sizes": sizes}


def _batch(ensemble: Ensemble, x: Tensor, steps: int, shown: int) -> Arrays:
    members = list(ensemble.members)
    with torch.no_grad():
        label = ensemble(x).argmax(1)
    cams = _cams(members, x, label)
    sizes = [(0, 0) if cam is None else tuple(cam.shape[1:]) for cam in cams]
    lines = saliency(members, x, label, create_graph=False).cpu().numpy()
    found: Arrays = {"label": label.cpu().numpy(), "map-sizes": np.array(sizes)}
    if len(members) > 1:
        found["saliency-cosine"] = pair_cosines(lines)
        whole = [cam for cam in cams if cam is not None]
        if len(whole) == len(cams) and len(set(sizes)) == 1:
            found["gradcam-cosine"] = pair_cosines(torch.stack(whole).cpu().numpy())
        integrated = integrated_gradients(members, x, label, steps=steps).cpu().numpy()
        # The magnitude of a gradient, as captum's Saliency and the paper have it; integrated gradients keep their sign.
        for name, maps in (("saliency", np.abs(lines)), ("integrated", integrated)):
            found[f"{name}-variance"] = map_variance(maps)
            found[f"{name}-variance-normalised"] = map_variance(maps, normalised=True)
    found["shown"] = x[:shown].cpu().numpy()
    found["shown-saliency"] = np.abs(lines[:, :shown]).sum(2).swapaxes(0, 1)
    for at, cam in enumerate(cams):
        if cam is not None:
            found[f"shown-gradcam-{at}"] = cam[:shown].cpu().numpy()
    return found


def _cams(members: list[torch.nn.Module], x: Tensor, label: Tensor) -> Maps:
    cams: Maps = []
    for member in members:
        try:
            cams.append(gradcam([member], x, label, create_graph=False)[0])
        except UserError:  # no convolutional maps of at least 3x3 pixels: the record says so
            cams.append(None)
    return cams

"""Our checkpoint: a folder with ``weights.safetensors`` and ``ensemble.json``; nothing in it is ever unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from robustkit import models
from robustkit.base.errors import UserError
from robustkit.base.files import write_atomic, write_json
from robustkit.base.version import __version__
from robustkit.ensembles.ensemble import Ensemble, Member

FORMAT = 1
WEIGHTS, META = "weights.safetensors", "ensemble.json"
CANDIDATES = "candidates"  # in the folder of a search: checkpoints of what its ensemble was chosen from


def save_ensemble(
    ensemble: Ensemble,
    folder: Path | str,
    *,
    arch: list[str],
    classes: list[str],
    shape: tuple[int, int, int],
    arch_params: list[Mapping[str, Any]] | None = None,
    training: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    history: list[dict[str, float]] | None = None,
) -> None:
    """Write an ensemble of :class:`~robustkit.ensembles.ensemble.Member` to a folder, the JSON last, each atomically.

    Parameters
    ----------
    arch : list of str
        Architecture name of each member, as :func:`robustkit.models.build` takes it.
    shape : (C, H, W)
        Of the images that the ensemble takes.
    training, data, metrics, history
        What is known of how it came about, as plain JSON.
    """
    folder = Path(folder)
    params = arch_params or [{} for _ in arch]
    members = []
    for member, name, extra in zip(ensemble.members, arch, params, strict=True):
        if not isinstance(member, Member):
            raise TypeError(f"member of type {type(member).__name__} is not a robustkit Member")
        mean, std = member.normalize.mean.flatten().tolist(), member.normalize.std.flatten().tolist()
        members.append({"arch": name, "params": dict(extra), "mean": mean, "std": std})
    meta = {
        "format": FORMAT,
        "robustkit_version": __version__,
        "members": members,
        "fusion": ensemble.fusion,
        "classes": classes,
        "shape": list(shape),
        "training": dict(training) if training else None,
        "data": dict(data) if data else None,
        "metrics": dict(metrics or {}),
        "history": history or [],
        "weights_sha256": ensemble.fingerprint(),
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in ensemble.state_dict().items()}
    write_atomic(folder / WEIGHTS, lambda stream: stream.write(safetensors.torch.save(tensors)))
    write_json(folder / META, meta)


def read_meta(path: Path | str) -> dict[str, Any]:
    """Return the JSON of a checkpoint folder; a :class:`UserError` says why it is not one."""
    folder = Path(path)
    folder = folder.parent if folder.name in (WEIGHTS, META) else folder
    if not (folder / META).is_file() or not (folder / WEIGHTS).is_file():
        # Cause: the folder is that of an evaluation or of another program, or the training in it is not done.
        raise UserError(
            f"'{path}' is not a robustkit checkpoint; a folder with {META} and {WEIGHTS} is expected, "
            "as `robustkit train` writes it."
        )
    try:
        meta = json.loads((folder / META).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"'{folder / META}' cannot be read as JSON ({error}); train or copy the checkpoint again."
        ) from None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        found = meta.get("format") if isinstance(meta, dict) else None
        # Cause: another version of robustkit wrote it.
        raise UserError(f"'{folder / META}' has checkpoint format {found}; this robustkit reads format {FORMAT}.")
    missing = {"members", "fusion", "classes", "shape", "weights_sha256"} - set(meta)
    if missing or not meta["members"]:
        raise UserError(f"'{folder / META}' lacks {', '.join(sorted(missing)) or 'members'}; train or copy it again.")
    return {**meta, "folder": str(folder)}


def load_ensemble(
    path: Path | str, *, fusion: str | None = None, arch: str | None = None, device: str | torch.device = "cpu"
) -> Ensemble:
    """Load a checkpoint folder as a module from x in [0, 1], (B, C, H, W), to fused log-probabilities (B, L).

    Parameters
    ----------
    path : path
        The folder, or a file in it.
    fusion : str or None
        Another fusion rule than the stored one.
    arch : str or None
        ``module:factory``: consent to run the code that the checkpoint names as its architecture. A checkpoint never
        runs code by itself. Of ``file.py:factory`` the file may lie elsewhere than when it was trained.

    Returns
    -------
    Ensemble
        In eval mode.

    Raises
    ------
    UserError
        If the folder is not a checkpoint, its files disagree, or it needs code that ``arch`` does not name.
    """
    meta = read_meta(path)
    members = []
    for row in meta["members"]:
        if not models.consented(row["arch"], arch):
            # Cause: the ensemble was trained with an architecture from a file or module; a checkpoint may not decide
            # that code is run.
            raise UserError(
                f"checkpoint '{path}' needs the code '{row['arch']}', which is run only if you name it: "
                f"--arch {row['arch']} (in Python: arch='{row['arch']}')."
            )
        name = models.as_named(row["arch"], arch)
        network = models.build(name, meta["shape"][0], len(meta["classes"]), row["params"])
        members.append(Member(network, row["mean"], row["std"]))
    ensemble = Ensemble(members, fusion or meta["fusion"])
    weights = Path(meta["folder"]) / WEIGHTS
    try:
        ensemble.load_state_dict(safetensors.torch.load_file(weights))
    except (safetensors.SafetensorError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"'{weights}' does not fit {META}: {reason}") from None
    if ensemble.fingerprint() != meta["weights_sha256"]:
        # Cause: the weights were changed, copied in part, or belong to another ensemble.json.
        raise UserError(f"'{weights}' is not the file that {META} describes (its hash differs); copy both again.")
    return ensemble.eval().to(device)

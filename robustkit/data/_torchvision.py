"""What the datasets that torchvision reads and downloads have in common."""

from __future__ import annotations

from functools import cache, partial
from http.client import HTTPException
from pathlib import Path

import torch
import torchvision
from torch import Tensor

from robustkit.base.errors import RunError, UserError
from robustkit.data import _split
from robustkit.data._facts import Source

# What torchvision raises on files that are missing, truncated or of another format.
BROKEN = (RuntimeError, AssertionError, OSError, EOFError, ValueError, TypeError)


def source(
    kind: str,
    *,
    data_dir: Path,
    download: bool,
    holds: str,
    classes: tuple[str, ...],
    shape: tuple[int, int, int],
) -> Source:
    """Make the source of one torchvision dataset; test and train are read (and fetched) only when asked for.

    Parameters
    ----------
    kind : str
        The name of torchvision's class.
    data_dir : Path
        Its ``root``.
    download : bool
        Whether missing files may be fetched.
    holds : str
        What a usable ``data_dir`` holds, for the message when it does not.
    classes, shape
        As in :class:`Source`.

    Raises
    ------
    UserError
        When a split is read and its files are missing or broken.
    RunError
        When a split is read and its download fails.
    """
    read = cache(partial(_read, kind, data_dir, download, holds, len(classes), shape))
    return _split.source({"train": lambda: read("train"), "test": lambda: read("test")}, classes=classes, shape=shape)


def _read(
    kind: str, root: Path, download: bool, holds: str, classes: int, shape: tuple[int, int, int], part: str
) -> tuple[Tensor, Tensor]:
    remedy = f"give --data-dir DIR that holds {holds}"
    make = partial(getattr(torchvision.datasets, kind), root, **_part(kind, part))
    try:
        loaded = make(download=False)
    except BROKEN as failure:
        reason = _reason(failure)
        if "not found" not in reason:
            raise UserError(f"the {part} files of {kind} in '{root}' cannot be read ({reason}); {remedy}.") from failure
        if not download:
            # Cause: the files are not in the folder, or an earlier download broke off.
            raise UserError(f"{kind} is missing or damaged in '{root}'; {remedy}, or --download.") from failure
        loaded = None
    if loaded is None:
        try:
            loaded = make(download=True)
        except (*BROKEN, HTTPException) as failure:
            cause = f"{kind} could not be downloaded to '{root}' ({_reason(failure)})"
            raise RunError(f"{cause}; check the network, or {remedy}.") from failure
    x = torch.as_tensor(loaded.data)
    x = x.unsqueeze(1) if x.ndim == 3 else x.permute(0, 3, 1, 2) if x.shape[-1] == 3 else x
    y = torch.as_tensor(loaded.labels if kind == "SVHN" else loaded.targets, dtype=torch.int64)
    if tuple(x.shape[1:]) != shape or len(x) != len(y) or not len(y) or int(y.max()) >= classes:
        found = f"{len(x)} images of shape {tuple(x.shape[1:])} and {len(y)} labels"
        raise UserError(f"the {part} files in '{root}' are not {kind} ({found}); {remedy}.")
    return x.contiguous(), y


def _part(kind: str, part: str) -> dict[str, str | bool]:
    return {"split": part} if kind == "SVHN" else {"train": part == "train"}


def _reason(failure: BaseException) -> str:
    return " ".join(str(failure).split())[:200]

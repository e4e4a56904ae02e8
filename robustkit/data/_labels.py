"""Labels as files and programs have them: one number for each image, a column of them, or one-hot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from robustkit.base.errors import UserError
from robustkit.data import _checked


@dataclass(frozen=True)
class Labels:
    """Labels y, int64 (N,); how many classes their shape says there are, 0 if it does not; and what to say of that."""

    y: Tensor
    classes: int = 0
    note: str = ""


def read(value: object, what: str = "the labels", *, shown: str = "") -> Labels:
    """Return labels given as (N,), as a column (N, 1), or one-hot (N, L); the note says so of the latter two.

    Parameters
    ----------
    what : str
        What a refusal calls them; ``shown``: what the note calls them, by default the same.

    Raises
    ------
    UserError
        If they are of another shape or type, negative, or a row of several is not one-hot.
    """
    y = _checked.tensor(np.asarray(value) if isinstance(value, list | tuple) else value, what)
    shown, (rows, *columns) = shown or what, tuple(y.shape) or (0,)
    if len(columns) != 1 or not rows or not columns[0]:
        return Labels(_checked.labels(value, what))
    if columns == [1]:
        note = f"{shown} are a column, (N, 1): its numbers are read"
        return Labels(_checked.labels(value[:, 0] if isinstance(value, np.ndarray) else y[:, 0], what), note=note)
    ones = y == 1
    if bool(((y == 0) | ones).all()) and bool((ones.sum(1) == 1).all()):
        return Labels(
            ones.long().argmax(1), columns[0], f"{shown} are one-hot, (N, {columns[0]}): the place of the one is read"
        )
    raise UserError(
        f"{what} have shape {tuple(y.shape)} and are not one-hot, one 1 among zeros in each row: several labels for an "
        "image, or none, are not evaluated; give one integer for each image."
    )

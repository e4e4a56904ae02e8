"""Data that a program has in memory, as a dataset: arrays, tensors, torch's Dataset and DataLoader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.utils import data as torch_data

from robustkit.base.errors import UserError
from robustkit.data import _checked, _gather, _labels, _split
from robustkit.data._facts import EVERYTHING, Dataset, Facts
from robustkit.data._labels import Labels

ACCEPTED = (
    "an (images, labels) pair of tensors or NumPy arrays, a torch DataLoader, a torch Dataset of (image, label), "
    "a dataset of robustkit, or the name of one"
)


def in_memory(data: object, facts: Facts, classes: Sequence[str] | None) -> Dataset:
    """Return a dataset of the caller's own, as :func:`robustkit.data.in_memory` describes it."""
    if isinstance(classes, str):
        raise UserError(f"classes '{classes}' is one text; give a list of names, one for each class.")
    if isinstance(data, Dataset):
        if classes is not None and tuple(classes) != data.classes:
            raise UserError(f"dataset '{data.name}' names its classes itself; leave classes out.")
        return data
    with torch.random.fork_rng(devices=[]):  # to iterate a DataLoader is to draw from the program's own stream
        x, read = _read(data)
    y = read.y
    if len(x) != len(y):
        raise UserError(f"there are {len(x)} images and {len(y)} labels; give one label for each image.")
    names = tuple(classes) if classes is not None else _named(data, max(int(y.max()), read.classes - 1))
    _checked.labels(y, classes=len(names))
    shape = cast("tuple[int, int, int]", tuple(x.shape[1:]))
    notes = (read.note,) if read.note else ()
    source = _split.source({EVERYTHING: _split.at_hand(x, y)}, classes=names, shape=shape, notes=notes)
    return Dataset(facts.name, facts.title, facts.threat, facts.flip, facts.recipe, source)


def _read(data: object) -> tuple[Tensor, Labels]:
    if isinstance(data, torch_data.DataLoader):
        return _gather.from_loader(data)
    if isinstance(data, torch_data.TensorDataset):
        return _pair(data.tensors, "the TensorDataset")
    if isinstance(data, torch_data.IterableDataset):
        name = type(data).__name__
        raise UserError(f"{name} is an IterableDataset; wrap it: torch.utils.data.DataLoader(it, batch_size=256).")
    if isinstance(data, list | tuple):
        return _pair(data, f"the {type(data).__name__} of data")
    if isinstance(data, torch_data.Dataset):
        return _gather.from_items(data)
    raise UserError(f"data of type {type(data).__name__} cannot be used; give {ACCEPTED}.")


def _pair(pair: object, what: str) -> tuple[Tensor, Labels]:
    first, second = _checked.two(pair, what)
    shapes = [tuple(getattr(part, "shape", ())) for part in (first, second)]
    if len(shapes[0]) == 1 and len(shapes[1]) > 2:
        raise UserError(f"{what} has shapes {shapes[0]} and {shapes[1]}; give the images first, then the labels.")
    return _checked.images(first), _labels.read(second)


def _named(data: object, highest: int) -> tuple[str, ...]:
    """Return the class names of a torch Dataset where it has enough of them, else numbers."""
    held = data.dataset if isinstance(data, torch_data.DataLoader) else data
    while isinstance(held, torch_data.Subset):
        held = held.dataset
    names = getattr(held, "classes", None)
    if isinstance(names, list | tuple) and len(names) > highest and all(isinstance(name, str) for name in names):
        return tuple(names)
    return tuple(str(label) for label in range(highest + 1))

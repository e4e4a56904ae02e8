"""What torch's DataLoader and Dataset give, gathered into one tensor of images and one of labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import data as torch_data

from robustkit.base.errors import UserError
from robustkit.data import _checked, _labels
from robustkit.data._labels import Labels

Batch = tuple[Tensor, Labels]
SHOWN = "the labels"
CHUNK = 256  # items of a Dataset that are stacked at once


def from_loader(loader: torch_data.DataLoader[Any]) -> tuple[Tensor, Labels]:
    """Return all images (N, C, H, W) and labels (N,) of a DataLoader, read once; a :class:`UserError` as they fail."""
    loader = _in_order(loader)
    return _gathered(_batches(loader), "the DataLoader", _length(loader) or 1)


def from_items(data: torch_data.Dataset[Any]) -> tuple[Tensor, Labels]:
    """Return all images and labels of a Dataset of known length; a :class:`UserError` as they fail."""
    name, n = type(data).__name__, _length(data)
    if n is None:
        raise UserError(f"{name} has no length; give a torch Dataset with __len__, or a DataLoader.")
    return _gathered(_stacks(data, n), name, -(-n // CHUNK))


def _length(sized: Any) -> int | None:
    """Return the length that a Dataset or DataLoader says it has, or None."""
    try:
        return len(sized)
    except (TypeError, NotImplementedError):
        return None


def _in_order(loader: torch_data.DataLoader[Any]) -> torch_data.DataLoader[Any]:
    """Return a DataLoader that gives the same images in the same order each time, where it can be told."""
    held = loader.batch_sampler if loader.batch_sampler is not None else loader
    sampler, size = getattr(held, "sampler", None), getattr(held, "batch_size", None)
    order: Any = None
    if isinstance(sampler, torch_data.WeightedRandomSampler):
        raise UserError(
            "the DataLoader draws its images by weight, others at each run; give one with shuffle=False and no sampler."
        )
    if isinstance(sampler, torch_data.SubsetRandomSampler):
        order = list(sampler.indices)
    elif not isinstance(sampler, torch_data.RandomSampler):
        return loader
    return torch_data.DataLoader(
        loader.dataset, batch_size=size, shuffle=None if order is not None else False, sampler=order,
        collate_fn=loader.collate_fn, num_workers=loader.num_workers, worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
    )  # fmt: skip


def _batches(loader: torch_data.DataLoader[Any]) -> Iterator[Batch]:
    """Yield the batches of a DataLoader, checked."""
    for index, batch in enumerate(_whatever(loader, "the DataLoader fails at batch")):
        of = f"of batch {index} of the DataLoader"
        x, y = _checked.two(batch, of.removeprefix("of "))
        if loader.batch_sampler is None and isinstance(x, Tensor) and x.ndim == 3 and np.ndim(y) == 0:
            raise UserError("the DataLoader gives single images and no batches; give it a batch_size, e.g. 256.")
        checked = _checked.images(x, f"the images {of}"), _labels.read(y, f"the labels {of}", shown=SHOWN)
        if len(checked[0]) != len(checked[1].y):
            raise UserError(f"batch {index} of the DataLoader has {len(x)} images and {len(y)} labels; give one each.")
        yield checked


def _stacks(data: torch_data.Dataset[Any], n: int) -> Iterator[Batch]:
    """Yield the items of a torch Dataset, stacked and checked."""
    name = type(data).__name__
    items = _whatever((data[index] for index in range(n)), f"{name} fails at item")
    xs: list[Tensor] = []
    ys: list[Tensor] = []
    first: tuple[int, ...] = ()
    for index, item in enumerate(items):
        image, label = _checked.two(item, f"item {index} of {name}")
        if _checked.is_picture(image):
            raise UserError(f"the images of {name} are PIL images; {_checked.PIL_REMEDY}.")
        x = _checked.tensor(image, f"the pixels of item {index} of {name}")
        what = f"the image of item {index} of {name}"
        _checked.check_axes(x.shape, what, numpy=isinstance(image, np.ndarray), one=True)
        first = first or tuple(x.shape)
        if tuple(x.shape) != first:
            raise UserError(f"{what} has shape {tuple(x.shape)}, item 0 {first}; bring all to one, e.g. with Resize.")
        xs.append(x)
        ys.append(_label(label, f"the label of item {index} of {name}"))
        if len(xs) == CHUNK or index == n - 1:
            of = f"of items {index + 1 - len(xs)} to {index} of {name}"
            yield (
                _checked.images(torch.stack(xs), f"the images {of}"),
                _labels.read(torch.stack(ys), f"the labels {of}", shown=SHOWN),
            )
            xs, ys = [], []


def _label(label: object, what: str) -> Tensor:
    try:
        y = torch.as_tensor(label)
    except (TypeError, ValueError, RuntimeError):
        raise UserError(f"{what} is {str(label)[:40]!r}, a {type(label).__name__}; give an integer from 0.") from None
    if y.ndim > 1 or not y.numel():
        raise UserError(f"{what} has shape {tuple(y.shape)}; give one integer from 0.")
    return y.detach().cpu()


def _whatever(items: Iterable[Any], fails: str) -> Iterator[Any]:
    """Yield what somebody else's code gives; a :class:`UserError` with its own words if it raises."""
    given = 0
    try:
        for item in items:
            yield item
            given += 1
    except UserError:
        raise
    except Exception as error:
        words = str(error)
        remedy = "mend it there"
        if "PIL." in words:
            remedy = f"its images are PIL images: {_checked.PIL_REMEDY}"
        elif "equal size" in words or "resize storage" in words:  # in this process, and in a worker
            remedy = "its images differ in shape: bring all to one, e.g. with Resize"
        kind = type(error).__name__
        last = (words.strip().splitlines() or [""])[-1].removeprefix(f"{kind}: ")[:200]  # a worker's ends with both
        raise UserError(f"{fails} {given} ({kind}: {last}); {remedy}.") from error


def _gathered(batches: Iterable[Batch], name: str, number: int) -> tuple[Tensor, Labels]:
    """Return all batches as one tensor each, filled as they come, so that no image is in memory twice.

    ``number`` is how many batches there are, as far as is known; where there are more, the room is doubled.
    """
    x, y, n = torch.empty(0), torch.empty(0, dtype=torch.int64), 0
    kinds: set[tuple[int, str]] = set()
    for images, read in batches:
        labels = read.y
        kinds.add((read.classes, read.note))
        if not n:
            x = _room(images, number * len(images))
            y = labels.new_empty(len(x))
        if images.dtype != x.dtype or images.shape[1:] != x.shape[1:]:
            now, before = (f"{t.dtype} {tuple(t.shape[1:])}".removeprefix("torch.") for t in (images, x))
            raise UserError(f"the images of {name} are {now} after {n} of {before}; give all the same type and shape.")
        end = n + len(images)
        if end > len(x):
            x, y = (torch.cat([old[:n], _room(new, max(n, len(new)))]) for old, new in ((x, images), (y, labels)))
        x[n:end], y[n:end] = images, labels
        n = end
    if not n:
        raise UserError(f"{name} is empty; give at least one image.")
    if len(kinds) > 1:
        raise UserError(f"the labels of {name} differ in shape from batch to batch; give one integer for each image.")
    classes, note = kinds.pop()
    return x[:n], Labels(y[:n], classes, note)


def _room(like: Tensor, n: int) -> Tensor:
    """Return a tensor for ``n`` of the rows of another; its memory is taken only as it is filled."""
    try:
        return like.new_empty((n, *like.shape[1:]))
    except RuntimeError:
        size = n * like[0].numel() * like.element_size() / 2**30
        raise UserError(f"{n} images take {size:.0f} GiB, more than there is; give fewer, e.g. a Subset.") from None

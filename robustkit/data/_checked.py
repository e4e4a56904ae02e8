"""Images and labels as their owner has them, checked and brought to what a split holds."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustkit.base.errors import UserError

MOST_CLASSES = 100_000  # a label beyond it is a mistake, and naming so many classes would fill the memory
OVERSHOOT = 1e-3  # how far beyond [0, 1] arithmetic alone takes pixels
COLOURS = (1, 3)  # channels that images have as a rule, by which their axis is told
PIL_REMEDY = "turn them to tensors, with transform=torchvision.transforms.ToTensor()"


def two(pair: object, what: str) -> tuple[Any, Any]:
    """Return images and labels of a pair; ``what`` begins the sentence that refuses anything else."""
    if isinstance(pair, list | tuple):
        if len(pair) == 2:
            return pair[0], pair[1]
        kinds = ", ".join(type(part).__name__ for part in pair[:4])
        number = f"{len(pair)} part{'s' * (len(pair) != 1)} ({kinds})"
        raise UserError(f"{what} has {number}, not two; give (images, labels) and nothing else.")
    if isinstance(pair, Mapping):
        keys = ", ".join(str(key) for key in list(pair)[:4])
        raise UserError(f"{what} is a {type(pair).__name__} with the keys {keys}; give a pair (images, labels).")
    raise UserError(f"{what} is a {type(pair).__name__}, not a pair; give (images, labels).")


def tensor(value: object, what: str) -> Tensor:
    """Return a tensor on the CPU, without gradients, that shares the memory of a tensor or array where it can."""
    if isinstance(value, Tensor):
        return value.detach().cpu().as_subclass(Tensor)
    if isinstance(value, np.ndarray):
        return _of_array(value, what)
    if is_picture(value):
        raise UserError(f"{what} are PIL images; {PIL_REMEDY}.")
    if isinstance(value, list | tuple):
        raise UserError(f"{what} are a {type(value).__name__}; make one tensor or array of it, e.g. torch.stack(them).")
    raise UserError(f"{what} are a {type(value).__name__}; give a torch tensor or a NumPy array.")


def is_picture(value: object) -> bool:
    """Return whether this is a PIL image, without importing PIL."""
    return any(kind.__module__.partition(".")[0] == "PIL" for kind in type(value).__mro__)


def _of_array(array: np.ndarray[Any, np.dtype[Any]], what: str) -> Tensor:
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise UserError(f"{what} are an array of {array.dtype}; give numbers: uint8, integers or floats.")
    if not array.dtype.isnative or any(stride < 0 for stride in array.strides):
        array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    with warnings.catch_warnings():  # that a memory map is read-only does not matter: nothing writes to the images
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def check_axes(shape: Sequence[int], what: str, *, numpy: bool = False, one: bool = False) -> None:
    """Refuse images that are not (N, C, H, W), or a single one that is not (C, H, W), and say what to do."""
    shape, name, wanted = tuple(shape), "image" if one else "x", "(C, H, W)" if one else "(N, C, H, W)"
    axes = shape if one else shape[1:]
    verb = "has" if one else "have"
    if 0 in shape:
        raise UserError(f"{what} {verb} shape {shape} and {'is' if one else 'are'} empty; give at least one image.")
    if len(axes) == 2:
        added = f"{name}[None]" if one else f"{name}[:, None]"
        raise UserError(f"{what} {verb} shape {shape}, without a channel axis; add it: {added}.")
    if len(axes) != 3:
        raise UserError(f"{what} {verb} shape {shape}; give {wanted}, e.g. with {name}.reshape.")
    if axes[0] not in COLOURS and axes[2] in COLOURS:
        order = "2, 0, 1" if one else "0, 3, 1, 2"
        moved = f"{name}.{'transpose' if numpy else 'permute'}({order})"
        raise UserError(f"{what} {verb} shape {shape}, the channels last; give {wanted}: {moved}.")


def images(value: object, what: str = "the images") -> Tensor:
    """Return images (N, C, H, W), uint8 or float32 in [0, 1].

    Raises
    ------
    UserError
        If they are of another shape or type, or a pixel is NaN or outside [0, 1].
    """
    x = tensor(value, what)
    check_axes(x.shape, what, numpy=isinstance(value, np.ndarray))
    if x.dtype == torch.uint8:
        return x
    if not x.is_floating_point():
        raise UserError(f"{what} are {_name(x)}; give uint8 from 0 to 255, or float from 0 to 1.")
    x = x.float()
    check_box(x, what)
    return x


def check_box(x: Tensor, what: str) -> None:
    """Refuse float images with a pixel that is NaN or outside [0, 1], and say what to do."""
    low, high = (float(value) for value in torch.aminmax(x.detach()))  # NaN if any is
    if low != low:
        raise UserError(f"{what} have pixels that are NaN; give numbers from 0 to 1.")
    if low < 0 or high > 1:
        remedy, digits = "scale them", "g"
        if low >= -OVERSHOOT and high <= 1 + OVERSHOOT:
            remedy, digits = "so little is rounding: give x.clamp(0, 1)", ".9g"
        elif low < 0:
            remedy = "leave their normalisation to the model, or scale them"
        elif 1 < high <= 255:
            remedy = "divide them by 255, or give uint8"
        raise UserError(f"{what} have pixels from {low:{digits}} to {high:{digits}}, outside [0, 1]; {remedy}.")


def labels(value: object, what: str = "the labels", *, classes: int | None = None) -> Tensor:
    """Return labels, int64 (N,).

    Raises
    ------
    UserError
        If they are of another shape or type, negative, or beyond the number of classes.
    """
    y = tensor(np.asarray(value) if isinstance(value, list | tuple) else value, what)
    shape = tuple(y.shape)
    if len(shape) == 2 and shape[1] > 0:
        column = "a column each" if shape[1] == 1 else "a row for each image"
        remedy = "y[:, 0]" if shape[1] == 1 else "y.argmax(1)"
        raise UserError(f"{what} have shape {shape}, {column}; give one integer for each image: {remedy}.")
    if len(shape) != 1:
        raise UserError(f"{what} have shape {shape}; give one integer for each image, (N,).")
    if y.dtype.is_complex or y.is_floating_point() or y.dtype == torch.bool:
        cast = "y.astype(int)" if isinstance(value, np.ndarray) else "y.long()"
        raise UserError(f"{what} are {_name(y)}; give integers from 0: {cast}, if they count the classes.")
    y = y.to(torch.int64)
    if not len(y):
        raise UserError(f"{what} are empty; give one for each image.")
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= (classes or MOST_CLASSES):
        raise UserError(f"{what} {out_of_range(low, high, classes)}.")
    return y


def out_of_range(low: int, high: int, classes: int | None = None) -> str:
    """Return what is wrong with labels of that range, the likely cause, and what to do."""
    known = f"; there are {classes} classes" if classes else ""
    last = classes - 1 if classes else "L - 1"
    text = f"run from {low} to {high}{known}"
    if low == -1:
        cause = "1 was subtracted from labels that begin at 0, or it marks images without a label"
        return f"{text}; -1 is no class: {cause}; number the classes from 0 to {last}"
    if classes and low >= 1 and high == classes:
        return f"{text}; they seem to count from 1: give y - 1"
    return f"{text}; number the classes from 0 to {last}, without gaps"


def _name(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")

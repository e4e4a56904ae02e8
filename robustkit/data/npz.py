"""Images of the user's own, as arrays in one .npz file."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustkit.base.errors import UserError
from robustkit.data import _labels as labels
from robustkit.data import _split, dataset
from robustkit.data._checked import MOST_CLASSES, out_of_range
from robustkit.data._facts import EVERYTHING, Source
from robustkit.data._labels import Labels

Arrays = dict[str, np.ndarray[Any, np.dtype[Any]]]
PAIRS = {"train": ("x_train", "y_train"), "validation": ("x_val", "y_val"), "test": ("x_test", "y_test")}
MEDMNIST = {part: (f"{name}_images", f"{name}_labels") for part, name in
            (("train", "train"), ("validation", "val"), ("test", "test"))}  # fmt: skip
WANTED = "save x and y, or x_train, y_train, x_test and y_test, with numpy.savez"


@dataset(
    "npz",
    title="NumPy arrays",
    norm="linf",
    eps=(0.00392156862745098, 0.00784313725490196, 0.01568627450980392, 0.03137254901960784),
    transfer_eps=0.03137254901960784,
    flip=False,
    arch="resnet20",
    epochs=100,
)
def npz(*, path: str) -> Source:
    """Arrays of your own: x and y, or x_train, y_train, x_test, y_test, in one .npz file.

    Images are uint8, or float in [0, 1] (kept as float32): (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3.
    Where both could be meant, e.g. (N, 3, 32, 3), the last axis is C. Labels are integers from 0, (N,) or (N, 1), or
    one-hot, (N, L). Class names
    may stand in ``classes``; without it there are as many classes as the highest label says. ``x_val`` and ``y_val``
    may stand next to the four. Files of MedMNIST are read as they are: train_images, train_labels (N, 1), and those of
    val and test, the package's own division. The file is read at once, and never with pickle. Ids are rows of the
    array.

    Parameters
    ----------
    path : str
        The file.

    Raises
    ------
    UserError
        If the file is missing or no such archive, or its arrays are not as above.
    """
    file = Path(path).expanduser()
    arrays = _arrays(file)
    parts: dict[str, tuple[Tensor, Tensor]] = {}
    read: dict[str, Labels] = {}
    for part, (x, y) in _pairs(file, arrays).items():
        images = _images(x, arrays[x])
        read[y] = _labels(y, arrays[y])
        parts[part] = (images, read[y].y)
        if len(arrays[x]) != len(arrays[y]):
            lengths = f"{len(arrays[x])} images in {x} but {len(arrays[y])} labels in {y}"
            raise UserError(f"'{file}' has {lengths}; give one label per image.")
    shapes = {part: tuple(x.shape[1:]) for part, (x, _) in parts.items()}
    if len(set(shapes.values())) > 1:
        raise UserError(f"the images of '{file}' differ in shape (C, H, W): {shapes}; give all the same.")
    c, h, w = next(iter(shapes.values()))
    classes = _classes(file, arrays, highest=max(max(int(one.y.max()), one.classes - 1) for one in read.values()))
    made = {part: _split.at_hand(*pair) for part, pair in parts.items()}
    notes = tuple(one.note for one in read.values() if one.note)
    return _split.source(made, classes=classes, shape=(c, h, w), notes=notes)


def images_of(file: Path) -> tuple[str, Tensor]:
    """Return the test images of such a file, or all of them, (N, C, H, W), and their key; labels are not needed.

    Raises
    ------
    UserError
        As :func:`npz` does, but for labels.
    """
    arrays = _arrays(file)
    for key in (PAIRS["test"][0], MEDMNIST["test"][0], "x"):
        if key in arrays:
            return key, _images(key, arrays[key])
    raise UserError(f"'{file}' has neither x nor x_test (it has {', '.join(sorted(arrays)) or 'nothing'}); {WANTED}.")


def _arrays(file: Path) -> Arrays:
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise UserError(f"npz file '{file}' {what}; {WANTED}.")
    try:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            arrays: Arrays | None = None
        else:
            with loaded as archive:
                known = (*PAIRS.values(), *MEDMNIST.values(), ("x", "y", "classes"))
                named = {key for keys in known for key in keys}
                # other keys are only named in a message, so they are not read
                arrays = {key: np.asarray(archive[key]) if key in named else np.empty(0) for key in archive.files}
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as failure:
        if "Object arrays" in str(failure):
            raise UserError(f"'{file}' holds an object array (pickled); save it as numbers or text.") from failure
        raise UserError(f"'{file}' is not an npz archive that can be read; {WANTED}.") from failure
    if arrays is None:
        raise UserError(f"'{file}' is one array and not an npz archive; {WANTED}.")
    for _, key in MEDMNIST.values():  # a column where an image has one label, several where it has several
        if key in arrays and arrays[key].ndim == 2 and arrays[key].shape[1] == 1:
            arrays[key] = arrays[key][:, 0]
    return arrays


def _pairs(file: Path, arrays: Arrays) -> dict[str, tuple[str, str]]:
    named = MEDMNIST if any(key in arrays for pair in MEDMNIST.values() for key in pair) else PAIRS
    pairs = {part: pair for part, pair in named.items() if part != "validation" or set(pair) & set(arrays)}
    if not any(key in arrays for pair in pairs.values() for key in pair):
        pairs = {EVERYTHING: ("x", "y")}
    if missing := [key for pair in pairs.values() for key in pair if key not in arrays]:
        found = ", ".join(sorted(arrays)) or "nothing"
        raise UserError(f"'{file}' lacks {', '.join(missing)} (it has {found}); {WANTED}.")
    return pairs


def _images(key: str, x: np.ndarray[Any, np.dtype[Any]]) -> Tensor:
    if x.dtype != np.uint8 and not np.issubdtype(x.dtype, np.floating):
        raise UserError(f"{key} is {x.dtype}; give images as uint8, or as float in [0, 1].")
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4 and x.shape[3] in (1, 3):
        x = x.transpose(0, 3, 1, 2)
    elif x.ndim != 4 or x.shape[1] not in (1, 3):
        raise UserError(f"{key} has shape {x.shape}; give (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3.")
    if x.size == 0:
        raise UserError(f"{key} is empty, of shape {x.shape}; give at least one image.")
    if x.dtype == np.uint8:
        return torch.from_numpy(np.ascontiguousarray(x))
    low, high = float(x.min()), float(x.max())  # NaN if any is
    if not (low >= 0 and high <= 1):
        raise UserError(f"{key} is in [{low:g}, {high:g}]; scale float images to [0, 1], or save them as uint8.")
    return torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))


def _labels(key: str, y: np.ndarray[Any, np.dtype[Any]]) -> Labels:
    if y.size == 0:
        raise UserError(f"{key} is empty; give at least one label.")
    if y.ndim == 2:
        return labels.read(y, key)
    if not np.issubdtype(y.dtype, np.integer):
        raise UserError(f"{key} is {y.dtype}; give labels as integers from 0.")
    if y.ndim != 1:
        raise UserError(f"{key} has shape {y.shape}; give one label per image, (N,).")
    if y.min() < 0 or y.max() >= MOST_CLASSES:
        raise UserError(f"{key} has labels that {out_of_range(int(y.min()), int(y.max()))}.")
    return Labels(torch.from_numpy(y.astype(np.int64)))


def _classes(file: Path, arrays: Arrays, *, highest: int) -> tuple[str, ...]:
    if "classes" not in arrays:
        return tuple(str(label) for label in range(highest + 1))
    names = arrays["classes"]
    if names.ndim != 1 or names.dtype.kind != "U":
        raise UserError(f"classes in '{file}' is {names.dtype} of shape {names.shape}; give one text per class, (L,).")
    if highest >= len(names):
        raise UserError(f"label {highest} in '{file}' is beyond its {len(names)} classes; name all, or none.")
    return tuple(str(name) for name in names)

"""Reads the published sets of corrupted images: arrays like CIFAR-10-C's, or folders like ImageNet-C's."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustkit.base.errors import UserError
from robustkit.corruptions import corruption
from robustkit.data._images import Images, probe
from robustkit.data._samples import in_order

SEVERITIES = 5
LABELS = "labels.npy"
ENDINGS = (".jpeg", ".jpg", ".png")


class Published:
    """A folder of ``NAME.npy`` and ``labels.npy``, or of ``[GROUP/]NAME/SEVERITY/CLASS/IMAGE``.

    Of an array, rows (s - 1) N to s N are severity s of the N test images, in their order. Of folders, the images of a
    severity are those of the image folder in the order of classes and names, or, where all names are numbers, the ids;
    severities are 1 to 5, or, of the C-bar sets, five strengths like 2.35 in ascending order.

    Parameters
    ----------
    folder : path
        The set. A corruption, or a severity, that it lacks or that is cut off is listed nowhere.

    Raises
    ------
    UserError
        If there is nothing in it that can be used, or if an array is no such set: of another type than uint8, or of
        other lengths than five times N; later, if its labels or images are not those asked for.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        if not self.folder.is_dir():
            raise UserError(f"'{folder}' is no folder; give that of a published set, like CIFAR-10-C.")
        known = set(corruption.names())
        self._arrays = {path.stem: path for path in sorted(self.folder.glob("*.npy")) if path.stem in known}
        self._folders: dict[str, dict[int, Path]] = {}
        if self._arrays and not (self.folder / LABELS).is_file():
            raise UserError(f"'{self.folder}' has no {LABELS}; add it: without it no image has its label.")
        if not self._arrays:
            for path in sorted([*self.folder.glob("*/"), *self.folder.glob("*/*/")]):
                if path.is_dir() and path.name in known:
                    self._folders[path.name] = _severities(path)
        if not self._arrays and not self._folders:
            raise UserError(f"'{self.folder}' holds no corruption; give a folder with NAME.npy or NAME/1/CLASS/.")

    def severities(self, name: str) -> tuple[int, ...]:
        """Return the severities of a corruption that are there and whole."""
        if name in self._arrays:
            try:
                array = self._array(name)
            except (OSError, ValueError, EOFError):  # cut off, or no array
                return ()
            self._check(name, array)
            return tuple(range(1, SEVERITIES + 1))
        return tuple(self._folders.get(name, {}))

    def fingerprint(self, name: str, severity: int) -> str:
        """Return what identifies a corruption's images: a hash of its array, or of its files' names and sizes."""
        if name in self._arrays:
            return _sha256(self._arrays[name])
        digest = hashlib.sha256()
        for file in self._files(name, severity)[0]:
            path = Path(file)
            digest.update(f"{path.parent.name}/{path.name} {path.stat().st_size}\n".encode())
        return digest.hexdigest()

    def images(self, name: str, severity: int, rows: Tensor, ids: Tensor, y: Tensor) -> Tensor:
        """Return the images of some test samples, float32 in [0, 1], (B, C, H, W).

        Parameters
        ----------
        rows, ids, y : Tensor
            Places of the samples among the test images, their ids, and their labels, int64 (B,).
        """
        return in_order(self.pixels(name, severity, rows, ids, y))

    def pixels(self, name: str, severity: int, rows: Tensor, ids: Tensor, y: Tensor) -> Tensor:
        """Return the 8-bit levels of what :meth:`images` returns, uint8 (B, C, H, W)."""
        if name in self._arrays:
            array, labels = self._array(name), self._labels[severity - 1]
            self._compare(name, severity, rows, y, labels)
            images = np.asarray(array[rows.numpy() + (severity - 1) * len(labels)])
            pixels = torch.from_numpy(images[..., None] if images.ndim == 3 else images).permute(0, 3, 1, 2)
        else:
            pixels = self._decoder(name, severity)[self._places(name, severity, ids, y)]
        return pixels

    def compare(self, name: str, severity: int, ids: Tensor, y: Tensor, shape: tuple[int, ...]) -> None:
        """Refuse a severity whose labels, or an array whose images, are not those of the first test images.

        Parameters
        ----------
        ids, y : Tensor
            Ids and labels of the samples that will be asked for, int64 (B,).
        shape : tuple of int
            ``(C, H, W)`` of their images.
        """
        if name not in self._arrays:
            self._places(name, severity, ids, y)
            return
        self._compare(name, severity, torch.arange(len(y)), y, self._labels[severity - 1])
        height, width, *channels = self._array(name).shape[1:]
        if (*(channels or [1]), height, width) != tuple(shape):
            size, wanted = ("x".join(map(str, sides)) for sides in ((*(channels or [1]), height, width), shape))
            raise UserError(f"images in '{self.folder}' are {size}, yours {wanted}; give a set of that size.")

    def _places(self, name: str, severity: int, ids: Tensor, y: Tensor) -> Tensor:
        """Return where the samples are among the files of a severity."""
        files, labels = self._files(name, severity)
        numbers = [Path(file).stem for file in files]
        if all(number.isdecimal() for number in numbers):
            place = {int(number): at for at, number in enumerate(numbers)}
            ids = torch.tensor([place.get(i, len(files)) for i in ids.tolist()])
        self._compare(name, severity, ids, y, torch.tensor(labels))
        return ids

    def _compare(self, name: str, severity: int, ids: Tensor, y: Tensor, labels: Tensor) -> None:
        if int(ids.max()) >= len(labels):
            raise UserError(
                f"'{self.folder}' has {len(labels)} images of {name} at severity {severity}; sample {int(ids.max())} "
                "is not there."
            )
        if not torch.equal(labels[ids], y):
            raise UserError(
                f"the labels in '{self.folder}' of {name} at severity {severity} are not those of the images "
                "evaluated; give their own set, in their order."
            )

    def _check(self, name: str, array: np.ndarray[tuple[int, ...], np.dtype[Any]]) -> None:
        """Refuse an array that is no five severities of 8-bit images of the labels."""
        file = self._arrays[name]
        if array.dtype != np.uint8:
            raise UserError(
                f"'{file}' holds {array.dtype}, not uint8 pixels from 0 to 255; write the published array, or your own "
                "times 255, rounded, as uint8."
            )
        if array.ndim not in (3, 4):
            raise UserError(f"'{file}' has shape {array.shape}; give images (5 N, H, W, C) or (5 N, H, W).")
        if len(array) != self._labels.numel():
            raise UserError(
                f"'{file}' has {len(array)} images, but {LABELS} {self._labels.numel()} labels; a set has the N test "
                "images at each of five severities, 5 N rows of both."
            )

    def _array(self, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        return np.load(self._arrays[name], mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]

    @functools.cached_property
    def _labels(self) -> Tensor:
        """Return the labels of each severity, int64 (5, N)."""
        file = self.folder / LABELS
        try:
            found = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"'{file}' cannot be read ({error}); give the labels as an array of integers.") from None
        if found.dtype.kind not in "iu" or found.ndim != 1:
            raise UserError(f"'{file}' holds {found.dtype} of shape {found.shape}; give one integer for each image.")
        wanted = f"'{file}' has {len(found)} labels"
        order = "the N test images' labels five times, severity 1 to 5 after one another"
        if len(found) == 0 or len(found) % SEVERITIES:
            raise UserError(f"{wanted}, which is not five times anything; give {order}.")
        labels = torch.from_numpy(found.astype(np.int64)).view(SEVERITIES, -1)
        for severity, own in enumerate(labels, 1):
            if not torch.equal(own, labels[0]):
                raise UserError(
                    f"{wanted}, and those of severity {severity} are not those of severity 1; give {order} (a set of "
                    "one severity alone goes into folders, NAME/SEVERITY/CLASS/IMAGE)."
                )
        return labels

    @functools.lru_cache(maxsize=4)  # noqa: B019 - a set lives as long as the evaluation
    def _files(self, name: str, severity: int) -> tuple[list[str], list[int]]:
        """Return the files of a severity and the number of each file's class."""
        folder = self._folders[name][severity]
        classes = sorted(path for path in folder.iterdir() if path.is_dir())
        each = [sorted(str(f) for f in path.iterdir() if f.suffix.lower() in ENDINGS) for path in classes]
        return [f for files in each for f in files], [label for label, files in enumerate(each) for _ in files]

    @functools.lru_cache(maxsize=4)  # noqa: B019
    def _decoder(self, name: str, severity: int) -> Images:
        files, _ = self._files(name, severity)
        channels, size = probe(files[:1], one_size=True)
        return Images(files, channels=channels, size=size, resize=None)


@dataclass(frozen=True)
class Taken:
    """The images of one corruption at one severity, in memory: what a machine that has no such folder is sent.

    ``pixels`` (N, C, H, W) are those of all evaluated samples in their order: uint8, or float32 in [0, 1].
    """

    folder: str
    pixels: Tensor

    def images(self, rows: Tensor) -> Tensor:
        """Return the images at some places among the evaluated samples, float32 in [0, 1], (B, C, H, W)."""
        return in_order(self.pixels[rows])


def _severities(folder: Path) -> dict[int, Path]:
    """Return the folder of each severity: named 1 to 5, or by five ascending strengths."""
    named: list[tuple[float, Path]] = []
    for path in folder.iterdir():
        try:
            named.append((float(path.name), path))
        except ValueError:
            continue
    named.sort()
    if all(number in range(1, SEVERITIES + 1) for number, _ in named):
        return {int(number): path for number, path in named if any(path.iterdir())}
    return {at: path for at, (_, path) in enumerate(named, 1)} if len(named) == SEVERITIES else {}


@functools.lru_cache(maxsize=64)
def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while part := stream.read(2**20):
            digest.update(part)
    return digest.hexdigest()

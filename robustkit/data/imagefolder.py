"""Images of the user's own, one folder per class."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

from robustkit.base.errors import UserError
from robustkit.data import _split, dataset
from robustkit.data._facts import EVERYTHING, Source
from robustkit.data._images import Images, probe

# Folder names that make a division, by what they are used as; val/ is the test split where there is no test/.
DIVISION = {"train", "test", "val"}


@dataset(
    "imagefolder",
    title="Image folder",
    norm="linf",
    eps=(0.00392156862745098, 0.00784313725490196, 0.01568627450980392, 0.03137254901960784),
    transfer_eps=0.03137254901960784,
    flip=True,
    arch="resnet20",
    epochs=100,
)
def imagefolder(*, path: str, image_size: tuple[int, int] | None = None) -> Source:
    """Images of your own: PATH/CLASS/*.png, or PATH/train/CLASS/* and PATH/test/CLASS/*.

    Indexed as ``torchvision.datasets.ImageFolder`` does (hidden folders aside): ids are its indices. Where there is
    ``test/``, ``val/`` is the validation split, else ``val/`` is the test split. Images are grey if the first of every
    class is, else RGB. They are decoded when asked for, and kept if all of them take less than 1 GiB.

    Parameters
    ----------
    path : str
        The folder.
    image_size : (int, int), optional
        Pixels that the shorter side of every image is resized to, and the side of the square that is then cut out of
        its centre; by default all must have one size already.

    Raises
    ------
    UserError
        If there is no such folder, it has fewer than two class folders, one without images (test may lack some of
        train's classes, and ``notes`` say so), a class in test that is none of train; if an image cannot be read, or
        has another size than the first.
    """
    root = Path(path).expanduser()
    folders = _folders(root)
    classes = _classes(folders[0][1])
    for part, folder in folders[1:]:
        if odd := sorted(set(_subfolders(folder)) - set(classes)):
            raise UserError(
                f"'{odd[0]}' is a class folder of '{folder}' and none of '{folders[0][1]}'; {part} may lack some of "
                f"its {len(classes)} classes, and have no others."
            )
    samples = {part: _samples(folder, classes, all_of_them=at == 0) for at, (part, folder) in enumerate(folders)}
    notes = tuple(_lacking(part, classes, labels) for part, (_, labels) in samples.items())
    first = [files[labels.index(c)] for files, labels in samples.values() for c in sorted(set(labels))]
    # the other images are checked when they are decoded: a folder may hold a million
    channels, size = probe(first, one_size=image_size is None)
    if image_size is not None:
        size = (image_size[1], image_size[1])
    resize = None if image_size is None else image_size[0]
    parts = {
        part: partial(_part, Images(files, channels=channels, size=size, resize=resize), labels)
        for part, (files, labels) in samples.items()
    }
    return _split.source(parts, classes=classes, shape=(channels, *size), notes=tuple(filter(None, notes)))


def _part(images: Images, labels: Sequence[int]) -> tuple[Images, Tensor]:
    return images, torch.tensor(labels, dtype=torch.int64)


def _subfolders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _folders(root: Path) -> list[tuple[str, Path]]:
    """Find which folders hold which part: ``everything`` alone, or ``train`` first and the others."""
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise UserError(f"image folder '{root}' {what}; give a folder with one folder of images per class.")
    names = set(_subfolders(root))
    if "train" in names and names & {"test", "val"}:
        test = "test" if "test" in names else "val"
        found = [("train", root / "train"), ("test", root / test)]
        return found + [("validation", root / "val")] if names >= DIVISION else found
    if names and names <= DIVISION:
        only = min(names)
        missing = "train/" if "train" not in names else "test/ or val/"
        raise UserError(f"'{root}' has {only}/ but no {missing}; add it, or take all of imagefolder:{root / only}.")
    return [(EVERYTHING, root)]


def _classes(folder: Path) -> tuple[str, ...]:
    names = tuple(_subfolders(folder))
    if len(names) < 2:
        found = f"only '{names[0]}'" if names else "none"
        # Cause: the images lie in the folder itself, or all of one class, or one level deeper.
        raise UserError(f"'{folder}' needs at least two class folders with images in them; it has {found}.")
    return names


def _lacking(part: str, classes: Sequence[str], labels: Sequence[int]) -> str:
    """Return which classes a part has no images of, if there are any."""
    lacking = [name for label, name in enumerate(classes) if label not in set(labels)]
    return (
        f"{part} has no images of {', '.join(lacking)}; labels are the places among train's classes" if lacking else ""
    )


def _samples(folder: Path, classes: tuple[str, ...], *, all_of_them: bool) -> tuple[list[str], list[int]]:
    index = {name: label for label, name in enumerate(classes)}
    samples = make_dataset(folder, index, extensions=IMG_EXTENSIONS, allow_empty=True)
    files, labels = [str(file) for file, _ in samples], [int(label) for _, label in samples]
    empty = [name for label, name in enumerate(classes) if label not in set(labels)]
    if empty and (all_of_them or not files):
        raise UserError(
            f"class folder '{folder / empty[0]}' has no images; add some ({', '.join(IMG_EXTENSIONS)}) or remove it."
        )
    return files, labels

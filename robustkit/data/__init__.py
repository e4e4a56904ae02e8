"""Datasets: one file each, found by the registry; names and threat models cost no torch.

A dataset is one function in one module. Its keyword-only parameters say what it takes: ``path`` (what follows the
colon in ``npz:PATH``), ``data_dir``, ``download``, ``image_size``; it returns a :class:`Source`. Files are read and
checked here, and divided in the same way in every session. Images stay in [0, 1]: normalisation belongs to the members
(:mod:`robustkit.ensembles`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustkit.base import paths
from robustkit.base.errors import UserError, unknown
from robustkit.base.registry import Entry, Registry
from robustkit.data._facts import SPLITS, Dataset, Facts, Recipe, Source, Threat

if TYPE_CHECKING:
    from robustkit.data._samples import Split as Split

__all__ = [
    "SPLITS",
    "Dataset",
    "Facts",
    "Recipe",
    "Source",
    "Split",
    "Threat",
    "dataset",
    "describe",
    "get",
    "in_memory",
    "load",
    "threat",
]

dataset = Registry("dataset", "robustkit.data")
get = dataset.get
MEMORY = "npz:tensors"  # what a program's own data are called in results, and whose budgets they have
FACTS = ("title", "norm", "eps", "transfer_eps", "flip", "arch", "epochs")


def load(
    name: str, *, data_dir: str | Path | None = None, download: bool = False, image_size: int | str | None = None
) -> Dataset:
    """Return a dataset by name; its pixels are read when a split is first asked for.

    Parameters
    ----------
    name : str
        A registered name, ``imagefolder:PATH`` or ``npz:PATH``.
    data_dir : path, optional
        Where downloadable datasets lie, in torchvision's layout (``DIR/MNIST/raw/...``); by default ``data`` in the
        cache folder. The others do not use it.
    download : bool
        Whether a downloadable dataset may be fetched into ``data_dir``.
    image_size : int or str, optional
        Pixels: the shorter side of every image is resized to it, then the centre cut out; ``"256:224"``, the usual
        evaluation on ImageNet, resizes to 256 and cuts 224 out. For ``imagefolder`` only.

    Raises
    ------
    UserError
        If the name is unknown, a path is missing or not asked for, or what lies there cannot be used.
    """
    facts = describe(name)
    entry, path = _parse(name)
    takes = {param.name for param in entry.params}
    if image_size is not None and "image_size" not in takes:
        raise UserError(f"image size {image_size} cannot be set for dataset '{entry.name}'; leave --image-size out.")
    sizes = None if image_size is None else _sizes(image_size)
    offered: dict[str, Any] = {
        "path": path,
        "data_dir": Path(data_dir).expanduser() if data_dir is not None else paths.data_dir(),
        "download": download,
        "image_size": sizes,
    }
    loader: Callable[..., Source] = dataset.get(entry.name)
    source = loader(**{key: value for key, value in offered.items() if key in takes})
    given = "" if image_size is None else str(image_size)
    return Dataset(facts.name, facts.title, facts.threat, facts.flip, facts.recipe, source, given)


def in_memory(data: object, *, classes: Sequence[str] | None = None) -> Dataset:
    """Return a dataset of the caller's own images and labels, all of them to be evaluated.

    Images are (N, C, H, W), uint8 or float in [0, 1]; labels are integers from 0, (N,) or (N, 1), or one-hot, (N, L),
    and ``source.notes`` says so of the latter two. Tensors and arrays are shared and not copied where their type allows
    it, so leave them as they are while the dataset is in use.

    Parameters
    ----------
    data : pair, DataLoader, torch Dataset or Dataset
        ``(x, y)``, tensors or NumPy arrays; a torch ``DataLoader`` whose batches are ``(x, y)``; a torch ``Dataset``
        of known length whose items are ``(image, label)``, such as torchvision's with ``ToTensor``; a dataset of
        robustkit, which is returned as it is. What a DataLoader or a Dataset gives is read once, here. A DataLoader
        that shuffles is read in the order of its dataset, and whole, since results of another order or of other
        images at each run are not found again.
    classes : sequence of str, optional
        Names of the classes; by default the ``classes`` of a torch Dataset that has them, else ``"0"``, ``"1"``, ...
        up to the highest label.

    Raises
    ------
    UserError
        If the data are of another kind, shape or range; the message says what to do.
    """
    from robustkit.data import _memory

    return _memory.in_memory(data, describe(MEMORY), classes)


def describe(name: str) -> Facts:
    """Return title, threat model and flip of a dataset, without torch and without reading its files.

    Raises
    ------
    UserError
        If the name is unknown, or lacks its path, or has one that the dataset does not take.
    """
    entry, _ = _parse(name)
    facts = entry.facts
    if missing := [fact for fact in FACTS if fact not in facts]:
        raise ValueError(f"dataset '{entry.name}' is registered without {', '.join(missing)}")
    budgets = Threat(facts["norm"], tuple(facts["eps"]), facts["transfer_eps"])
    return Facts(
        name,
        facts["title"],
        entry.summary,
        budgets,
        facts["flip"],
        Recipe(facts["arch"], facts["epochs"], facts.get("lr", Recipe.lr)),
    )


def threat(name: str) -> Threat:
    """Return the default threat model of a dataset, without torch; raises as :func:`describe` does."""
    return describe(name).threat


def takes_image_size(name: str) -> bool:
    """Return whether images of a dataset can be brought to another size; raises as :func:`describe` does."""
    return any(param.name == "image_size" for param in _parse(name)[0].params)


def _sizes(image_size: int | str) -> tuple[int, int]:
    """Read ``224`` or ``256:224`` into the pixels of the shorter side and of the square that is cut out."""
    try:
        resized, *cut = (int(part) for part in str(image_size).split(":"))
    except ValueError:
        resized, cut = 0, []
    side = cut[0] if cut else resized
    if len(cut) > 1 or not 1 <= side <= resized:
        raise UserError(
            f"image size '{image_size}' is out of range; write 224, or 256:224 to resize to 256 and cut 224 out."
        )
    return resized, side


def _parse(name: str) -> tuple[Entry, str]:
    kind, colon, path = name.partition(":")
    if kind not in dataset:
        raise unknown("dataset", kind, [f"{e.name}:PATH" if _takes_path(e) else e.name for e in dataset])
    entry = dataset.entry(kind)
    if _takes_path(entry) and not path:
        raise UserError(f"dataset '{name}' has no path; write {kind}:PATH.")
    if colon and not _takes_path(entry):
        raise UserError(f"dataset '{name}' takes no path; write {kind}, and --data-dir for where its files lie.")
    return entry, path


def _takes_path(entry: Entry) -> bool:
    return any(param.name == "path" for param in entry.params)


def __getattr__(name: str) -> Any:
    if name == "Split":  # the one public name that needs torch
        from robustkit.data._samples import Split

        return Split
    raise AttributeError(f"module 'robustkit.data' has no attribute '{name}'")

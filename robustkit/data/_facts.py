"""What is known of a dataset, apart from its pixels. Never imports torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from robustkit.base.errors import UserError, unknown

if TYPE_CHECKING:
    from robustkit.data._samples import Split

SPLITS = ("train", "validation", "test")
EVERYTHING = "everything"


@dataclass(frozen=True)
class Threat:
    """The budgets at which a dataset is attacked unless the user says otherwise.

    Parameters
    ----------
    norm : str
        The norm of the ball, e.g. ``linf``.
    eps : tuple of float
        Ascending radii, in pixel units [0, 1].
    transfer_eps : float
        The one radius of transfer attacks, in pixel units [0, 1].
    """

    norm: str
    eps: tuple[float, ...]
    transfer_eps: float


@dataclass(frozen=True)
class Recipe:
    """How an ensemble is trained on a dataset unless the user says otherwise: architecture, epochs, learning rate."""

    arch: str
    epochs: int
    lr: float = 1e-3


@dataclass(frozen=True)
class Facts:
    """What the registry knows of a dataset before anything is read or imported.

    ``name`` is as the user typed it, ``flip`` says whether a mirrored image keeps its label.
    """

    name: str
    title: str
    summary: str
    threat: Threat
    flip: bool
    recipe: Recipe


@dataclass(frozen=True)
class Source:
    """What the loader of one dataset returns.

    Parameters
    ----------
    classes : tuple of str
        Class names; label ``i`` is ``classes[i]``.
    shape : tuple of int
        ``(C, H, W)`` of one image.
    read : callable
        Takes ``train``, ``validation`` or ``test`` (and ``everything`` where ``whole``) and returns that split.
    whole : bool
        Whether the data has no train/test division of its own.
    notes : tuple of str
        What to say of how it was read, where more than one way was possible.
    """

    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    read: Callable[[str], Split]
    whole: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """A dataset whose splits are read on first use and kept.

    Attributes
    ----------
    name : str
        As the user typed it, e.g. ``mnist`` or ``npz:images.npz``.
    title : str
        For people, e.g. ``Fashion-MNIST``.
    threat : Threat
        The budgets at which it is attacked by default.
    flip : bool
        Whether a horizontal flip is a valid augmentation.
    recipe : Recipe
        Architecture, epochs and learning rate of a training by default.
    image_size : str
        What its images were brought to, as the user typed it; empty: they are as they came.
    """

    name: str
    title: str
    threat: Threat
    flip: bool
    recipe: Recipe
    source: Source = field(repr=False)
    image_size: str = ""
    _splits: dict[str, Split] = field(default_factory=dict, repr=False, compare=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; label ``i`` is ``classes[i]``."""
        return self.source.classes

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C, H, W)`` of one image."""
        return self.source.shape

    @property
    def whole(self) -> bool:
        """Whether the data has no train/test division of its own, so that :meth:`everything` is there to evaluate."""
        return self.source.whole

    def split(self, name: str) -> Split:
        """Return ``train``, ``validation`` or ``test``; the division is fixed, the same in every session.

        Raises
        ------
        UserError
            If there is no such split, or its files are missing or broken.
        RunError
            If its download fails.
        """
        if name not in SPLITS:
            raise unknown("split", name, SPLITS)
        return self._read(name)

    def everything(self) -> Split:
        """Return all samples of a source without a division of its own; a :class:`UserError` for the others."""
        if not self.whole:
            raise UserError(f"dataset '{self.name}' has a test split of its own; take one of: {', '.join(SPLITS)}.")
        return self._read(EVERYTHING)

    def _read(self, name: str) -> Split:
        if name not in self._splits:
            self._splits[name] = self.source.read(name)
        return self._splits[name]

"""What a reproduction is made of: the paper's ensembles and training, and what came out here. Never imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from robustkit.records.schema import Verdict

if TYPE_CHECKING:
    from robustkit.reports._drawing import Drawing

Spread = tuple[float, float]  # a mean and a standard deviation over seeds


@dataclass(frozen=True)
class Column:
    """One ensemble that a table compares: its name in the paper, the defence, and parameters like ``adp.alpha``.

    ``recipe`` is how it is trained where a table's ensembles are not all trained alike.
    """

    name: str
    defense: str
    params: Mapping[str, Any] = field(default_factory=dict)
    fusion: str = "mean-prob"
    recipe: Recipe | None = None


@dataclass(frozen=True)
class Recipe:
    """How a paper trains.

    Attributes
    ----------
    images : int
        Training images.
    train : mapping
        What ``--set train.NAME`` takes: handed to the training, and compared with its record.
    compared : mapping
        Further fields of the training's record that are compared only: the dataset or the loop decides them.
    seeds : int
        How many repetitions the paper averages over.
    small : str
        The architecture of the small budget.
    seed : int
        Added to the request's seed.
    """

    arch: str
    members: int
    epochs: int
    images: int
    train: Mapping[str, Any] = field(default_factory=dict)
    compared: Mapping[str, Any] = field(default_factory=dict)
    seeds: int = 1
    small: str = "small-resnet"
    seed: int = 0


@dataclass(frozen=True)
class Images:
    """How many test images are used: in the paper, and in the small budget. ``stated``: the paper says so."""

    paper: int
    small: int
    stated: bool = True


@dataclass(frozen=True)
class Comparison:
    """One number of the paper beside ours, in the paper's unit; None where there is none, or it is not defined.

    ``ci95`` is the Wilson interval of a share of samples, ``spread`` the standard deviation that the paper prints,
    ``own_spread`` that of our runs where there are several.
    """

    row: str
    column: str
    ours: float | None
    paper: float | None = None
    unit: str = "%"
    ci95: tuple[float, float] | None = None
    spread: float | None = None
    verdict: Verdict | None = None
    own_spread: float | None = None

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's."""
        return None if self.ours is None or self.paper is None else self.ours - self.paper

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as plain JSON."""
        return {
            "row": self.row, "column": self.column, "unit": self.unit, "paper": self.paper, "paper_spread": self.spread,
            "ours": self.ours, "ci95": list(self.ci95) if self.ci95 else None, "difference": self.difference,
            "verdict": self.verdict, "spread": self.own_spread,
        }  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper whose numbers are only in a picture, what was measured here, and whether that agrees."""

    paper: str
    measured: str
    holds: bool

    def to_json(self) -> dict[str, Any]:
        """Return the claim as plain JSON."""
        return {"paper": self.paper, "measured": self.measured, "holds": self.holds}


@dataclass(frozen=True)
class Outcome:
    """What a reproduction returns; ``decimals`` are those that the paper prints, ``interval`` is the kind of ours."""

    comparisons: Sequence[Comparison]
    claims: Sequence[Claim] = ()
    drawings: Sequence[Drawing] = ()
    decimals: int = 1
    note: str = ""
    interval: str = "Wilson"

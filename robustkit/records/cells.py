"""What is stored: the question (Spec, Cell), and with the per-sample facts (Samples) the answer (Run).

Records are frozen, hold no judgement, and are written as JSON + npz. A cell's key is a hash of its canonical JSON, so
that equal questions share one stored answer. Never imports torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy.typing as npt

from robustkit.records.samples import Samples
from robustkit.records.schema import SCHEMA_VERSION

COUNTS = ("steps", "restarts", "queries", "generations")  # parameters that say how long an attack takes
LENGTHS = ("steps", "generations")  # those that tell apart attacks of one name in a line
SURROGATE = "surrogate-"  # before the key of an ensemble in Cell.source


def canonical(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces; TypeError on anything that is not plain JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """Return the SHA-256 (hex) of a value's canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


@dataclass(frozen=True)
class Spec:
    """A method by name with its whole configuration, for instance ``Spec("attack", "pgd", {"steps": 10})``."""

    kind: str
    name: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the spec as plain JSON."""
        return {"kind": self.kind, "name": self.name, "params": dict(self.params)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Spec:
        """Read what :meth:`to_json` wrote."""
        return cls(value["kind"], value["name"], dict(value["params"]))


def counted(params: Mapping[str, Any], names: Iterable[str] = COUNTS, least: float = 2) -> list[str]:
    """Return the counts of an attack in words, as ``10 steps``: those that it has and that are not below a least."""
    return [f"{params[name]} {name}" for name in names if name in params and params[name] >= least]


@dataclass(frozen=True)
class Cell:
    """One independent piece of an evaluation: who is attacked, on what data, how, from where.

    Attributes
    ----------
    kind : {"clean", "attack", "transfer", "probe", "corruption"}
        ``attack`` is white-box on the fused output and stops at the first success; ``transfer`` runs all steps;
        ``probe`` notes facts for the trust checks, and ``attack`` then names the probe; of a ``corruption`` it names
        the corruption, with its severity.
    ensemble : str
        Hash of the ensemble's weights, architecture and fusion rule.
    data : str
        Hash of the images and labels.
    attack : Spec or None
        The attack with its whole configuration but budget and aim; None for ``clean``.
    eps : float or None
        Budget in pixel units [0, 1] of a fixed-budget attack; None for one that looks for the smallest perturbation.
    norm : str
        The norm of the ball, or of what is made small.
    target : str
        Empty: untargeted. Else whose rule names the target labels: ``random``, ``least-likely``, ``next-best`` or a
        label's number.
    after : str
        Key of the same attack's cell at the next smaller eps, whose broken samples are taken over; empty: none. Of a
        probe: what it follows on.
    source : str
        What the attack sees: ``ensemble`` (the fused output), ``member-0``, ``member-1``, ..., or ``surrogate-KEY``:
        the fused output of another ensemble, which is not scored.
    seed : int
        Seed of the per-sample randomness.
    backend : str
        Whose implementation runs.
    eot : int
        Over how many passes of the model what the attack is shown is averaged (expectation over transformation).
    version : str
        The robustkit version that made the record: another version never reuses it.
    """

    kind: str
    ensemble: str
    data: str
    attack: Spec | None = None
    eps: float | None = None
    norm: str = ""
    target: str = ""
    source: str = "ensemble"
    after: str = ""
    seed: int = 0
    backend: str = "native"
    version: str = ""
    eot: int = 1

    def to_json(self) -> dict[str, Any]:
        """Return the cell as plain JSON."""
        value = {f.name: getattr(self, f.name) for f in fields(self)}
        value["attack"] = self.attack.to_json() if self.attack else None
        if self.eot == 1:  # the question is what it was before there was such a field, and so is its key
            del value["eot"]
        return {"schema_version": SCHEMA_VERSION, **value}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Cell:
        """Read what :meth:`to_json` wrote."""
        known = {k: v for k, v in value.items() if k != "schema_version"}
        known["attack"] = Spec.from_json(value["attack"]) if value["attack"] else None
        return cls(**known)

    @cached_property
    def key(self) -> str:
        """The content address: SHA-256 of the canonical JSON."""
        return digest(self.to_json())

    @property
    def name(self) -> str:
        """Name of the attack, empty for a clean cell."""
        return self.attack.name if self.attack else ""

    @property
    def params(self) -> dict[str, Any]:
        """Configuration of the attack, with ``eot`` where it is above 1; empty for a clean cell."""
        own = dict(self.attack.params) if self.attack else {}
        return {**own, "eot": self.eot} if self.eot > 1 else own

    @property
    def attacked(self) -> str:
        """Key of the ensemble that the attack sees: the one that is scored, or a surrogate."""
        return self.source.removeprefix(SURROGATE) if self.source.startswith(SURROGATE) else self.ensemble

    @property
    def targeted(self) -> bool:
        """Whether the attack aims at a label."""
        return bool(self.target)


def images_of(data: str, version: str) -> Cell:
    """Return the cell that the images of a dataset, by its hash, are kept under."""
    return Cell("images", "", data, version=version)


@dataclass(frozen=True)
class Run:
    """A cell with its samples, the wall-clock seconds it took, its warnings, and the machine it ran on."""

    cell: Cell
    samples: Samples
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)

    def meta(self) -> dict[str, Any]:
        """Return everything but the samples as plain JSON."""
        return {
            "cell": self.cell.to_json(),
            "seconds": self.seconds,
            "warnings": list(self.warnings),
            "environment": dict(self.environment),
        }


@dataclass(frozen=True)
class Facts:
    """What a probe noted: a cell of kind ``probe``, arrays of one row for each sample looked at, and the seconds."""

    cell: Cell
    arrays: Mapping[str, npt.NDArray[Any]]
    seconds: float = 0.0


@dataclass(frozen=True)
class EnsembleRecord:
    """What a report says of an ensemble: ``key`` is what cells name it by, ``id`` is what people call it.

    ``checkpoint`` and ``training`` say where it is from, where that is known
    (:class:`~robustkit.records.schema_run.EnsembleOrigin`). In a study over seeds ``group`` is what those that differ
    in the training's ``seed`` alone are called together.
    """

    id: str
    key: str
    defense: str
    params: Mapping[str, Any]
    arch: tuple[str, ...]
    members: int
    fusion: str
    weights_sha256: str
    checkpoint: Mapping[str, Any] | None = None
    training: Mapping[str, Any] | None = None
    group: str = ""
    seed: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON."""
        value = {**asdict(self), "arch": list(self.arch), "params": dict(self.params)}
        if not self.group:  # a study of one seed is what it was before there were such fields
            del value["group"], value["seed"]
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> EnsembleRecord:
        """Read what :meth:`to_json` wrote."""
        return cls(**{**value, "arch": tuple(value["arch"])})


@dataclass(frozen=True)
class DatasetRecord:
    """What a report says of the data that was evaluated on."""

    name: str
    split: str
    n: int
    classes: tuple[str, ...]
    sha256: str
    shape: tuple[int, ...] = ()
    image_size: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON."""
        return {**asdict(self), "classes": list(self.classes), "shape": list(self.shape)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> DatasetRecord:
        """Read what :meth:`to_json` wrote."""
        return cls(**{**value, "classes": tuple(value["classes"]), "shape": tuple(value["shape"])})

"""Everything that decides what a training gives: the defence, the data and the recipe. Never imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from robustkit.base import options
from robustkit.base.errors import UserError, unknown
from robustkit.base.names import OPTIMISERS, SCHEDULES
from robustkit.defenses import defense as defenses
from robustkit.records.cells import Spec, digest
from robustkit.training import recipes

# What --set train.NAME=VALUE takes, and what it is read to: a number, yes or no, or one of some names.
SETTABLE: Mapping[str, type | tuple[str, ...]] = {
    "lr": float, "weight_decay": float, "batch_size": int, "shift": float, "momentum": float, "label_smoothing": float,
    "flip": bool, "ema": float, "optimiser": OPTIMISERS, "schedule": SCHEDULES, "drops": str,
}  # fmt: skip


@dataclass(frozen=True)
class TrainSpec:
    """A whole training; its digest names the cached ensemble.

    The defaults are the ADP paper's (section 4.2): Adam 1e-3, batch 64, weight decay 1e-4, learning rate x0.1 at 2/3
    and x0.01 at 8/9 of the epochs, shifts of 10 %. ``flip`` is for data where a mirrored image keeps its class, as
    the dataset says, or its user.

    Attributes
    ----------
    optimiser : {"adam", "sgd", "adabelief"}
        ``sgd`` with Nesterov's ``momentum``.
    schedule : {"steps", "cosine", "constant"}
        ``steps``: x0.1 at the shares of the epochs that ``drops`` lists; ``cosine``: down to 1e-6.
    label_smoothing : float
        Of every cross-entropy, in [0, 1).
    ema : float
        Decay of the moving average of the weights that is validated and kept; 0: none.
    outliers_sha256 : str
        Fingerprint of the outliers' training images; empty without any.
    speed : {"auto", "off", "max"}
        Which ways of computing a step are tried (:mod:`robustkit.training.forward`); they round differently.
    processes : int
        How many share each batch (``torchrun``); batch norm sees each share on its own.
    arch_sha256 : str
        Of the code that ``arch`` names (:func:`robustkit.models.source_digest`); empty for any other architecture,
        and then left out of the JSON.
    """

    defense: Spec
    dataset: str
    data_sha256: str
    arch: str
    members: int = 3
    epochs: int = 40
    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 1e-4
    shift: float = 0.1
    flip: bool = False
    fusion: str = "mean-prob"
    seed: int = 0
    arch_params: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""
    optimiser: str = "adam"
    momentum: float = 0.9
    schedule: str = "steps"
    drops: str = "2/3,8/9"
    label_smoothing: float = 0.0
    ema: float = 0.0
    outliers_sha256: str = ""
    speed: str = "auto"
    processes: int = 1
    arch_sha256: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the spec as plain JSON."""
        whole = {**asdict(self), "defense": self.defense.to_json(), "arch_params": dict(self.arch_params)}
        return whole if self.arch_sha256 else {name: whole[name] for name in whole if name != "arch_sha256"}

    @property
    def key(self) -> str:
        """The content key: SHA-256 of the canonical JSON."""
        return digest(self.to_json())

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """Return ``name: here, there`` for each field in which the JSON of another training differs."""
        mine = self.to_json()
        return [f"{k}: {mine[k]}, there {other.get(k)}" for k in mine if mine[k] != other.get(k)]


def settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the training parameters that ``--set train.NAME=VALUE`` gives, read and checked."""
    values: dict[str, Any] = {}
    for name, text in given.items():
        if name not in SETTABLE:
            raise unknown("parameter in --set train", name, SETTABLE)
        kind = SETTABLE[name]
        if isinstance(kind, tuple):
            values[name] = options.choice(str(text), f"train.{name}", kind)
        elif kind is str:
            shares(text := str(text), f"train.{name}")
            values[name] = text
        elif kind is bool:
            values[name] = options.boolean(text, f"train.{name}")
        else:
            value = options.in_range(name, options.number(text, f"train.{name}"))
            if kind is int and value != int(value):
                raise UserError(f"train.{name} '{text}' is not a whole number.")
            values[name] = kind(value)
    return values


def shares(text: str, label: str) -> tuple[float, ...]:
    """Read ``2/3,8/9`` into ascending shares of a whole, each in (0, 1); an empty text into none."""
    found = tuple(options.number(part, label) for part in text.split(",") if part.strip())
    if any(not 0 < share < 1 for share in found) or list(found) != sorted(found):
        raise UserError(f"{label} '{text}' is not a list of ascending shares between 0 and 1, like 2/3,8/9.")
    return found


def paper(name: str, dataset: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the paper's recipe and its parameters of a defence on a dataset, as two tables.

    Where a defence is composed, the recipe of the maker of inputs goes before that of the loss.
    """
    loss, inputs = defenses.parts(name)
    recipe: dict[str, Any] = {}
    params: dict[str, Any] = {}
    for entry in (loss, inputs) if inputs else (loss,):
        if "paper" in entry.facts:
            by_dataset = entry.facts.get("paper_own", {})
            own = dict(by_dataset.get(dataset, by_dataset.get("*", {})))
            params |= {f"{entry.name}.{k}" if "+" in name else k: v for k, v in own.pop("params", {}).items()}
            recipe |= {**recipes.of(entry.facts["paper"], dataset), **own}
    if not recipe:
        raise UserError(f"defense '{name}' has no hyperparameters of a paper; leave out --recipe paper.")
    return recipe, params

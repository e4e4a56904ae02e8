"""What a search method works with, and what it finds."""

from __future__ import annotations

import contextlib
import io
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from robustkit.base.errors import UserError
from robustkit.base.files import write_atomic
from robustkit.base.progress import Reporter
from robustkit.data import Dataset, Split
from robustkit.models._genotype import Genotype
from robustkit.records.cells import digest
from robustkit.training.samples import Samples
from robustkit.training.step import generator_of

HALVES = 3001  # stream of the division of the training split
GENOTYPE = "genotype"


@dataclass(frozen=True)
class Found:
    """One candidate.

    Attributes
    ----------
    name : str
        What it is called: a folder bears it.
    arch, arch_params
        As :func:`robustkit.models.build` takes them.
    facts : mapping
        What the method knows of it, plain JSON.
    weights : mapping of str to Tensor or None
        The state dict of that network where it is trained already; else it is trained from scratch.
    """

    name: str
    arch: str
    arch_params: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Tensor] | None = None


def found(name: str, genotype: Genotype, *, cells: int, width: int, facts: Mapping[str, Any] | None = None) -> Found:
    """Return a candidate of the cell space: a network of that many cells, whose first has ``width`` channels."""
    params = {"genotype": genotype.to_json(), "cells": cells, "width": width}
    return Found(name, GENOTYPE, params, {"architecture": str(genotype), **(facts or {})})


def enough(lab: SearchLab, candidates: int, method: str, there: int | None = None) -> None:
    """Raise a :class:`UserError`, before any search, if there are fewer candidates than members.

    ``there``: how many architectures there are, of which the candidates are to be different ones; None: enough.
    """
    if there is not None and there < lab.members <= candidates:
        raise UserError(
            f"{lab.members} different members cannot be chosen of {there}, which is all the architectures that "
            f"'{method}' can draw with these settings; lower --members, or change --set {method}.nodes or what else "
            "limits them."
        )
    if candidates < lab.members:
        raise UserError(
            f"{lab.members} members cannot be chosen of {candidates} candidates; give --set "
            f"{method}.candidates={lab.members} or more, or lower --members."
        )


def first_seed(seed: int, start: int = 0) -> int:
    """Return what untrained weights are drawn with: of ``seed`` and ``start`` alone, as torch takes it (64 bits)."""
    return (seed * 1_000_003 + start) % 2**63


@dataclass
class Cost:
    """What a part of a search cost: seconds, and passes of the network, in samples."""

    seconds: float = 0.0
    forward: int = 0
    backward: int = 0


class Checkpoint:
    """Where one part of a search stands: tensors and plain values, written atomically, read without unpickling code."""

    def __init__(self, lab: SearchLab, name: str) -> None:
        self.lab, self.path = lab, lab.folder / f"{name}.pt"

    def load(self) -> dict[str, Any] | None:
        """Return what :meth:`save` wrote, or None; a :class:`UserError` where another search wrote it."""
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            there, costs = json.loads(state["asked"]), json.loads(state["costs"])
        except FileNotFoundError:
            return None
        except Exception:  # noqa: BLE001 - whatever is met in a damaged file: begin anew
            return None
        if there != self.lab.asked:
            refuse(self.path, self.lab.asked, there)
        self.lab.costs.update({name: Cost(**cost) for name, cost in costs.items()})
        held: dict[str, Any] = state["state"]
        return held

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the state, and with it what the search cost so far."""
        costs = {name: asdict(cost) for name, cost in self.lab.costs_now().items()}
        buffer = io.BytesIO()
        torch.save({"asked": json.dumps(self.lab.asked), "costs": json.dumps(costs), "state": dict(state)}, buffer)
        write_atomic(self.path, lambda stream: stream.write(buffer.getbuffer()))


def refuse(path: Path, mine: Mapping[str, Any], there: Mapping[str, Any]) -> NoReturn:
    """Raise the :class:`UserError` of a folder in which another search is not done."""
    differing = "; ".join(
        f"{k}: {mine.get(k)}, there {there.get(k)}" for k in {**mine, **there} if mine.get(k) != there.get(k)
    )
    # Cause: the --out folder holds the progress of another search.
    raise UserError(
        f"'{path}' is a search that was interrupted and differs in {differing}; give the same options to go on with "
        "it, or another --out, or delete it."
    )


def asked_of(path: Path) -> dict[str, Any] | None:
    """Return what the search was asked whose state a file of :class:`Checkpoint` is; None where it cannot be read."""
    try:
        asked: dict[str, Any] = json.loads(torch.load(path, map_location="cpu", weights_only=True)["asked"])
    except Exception:  # noqa: BLE001 - whatever is met in a damaged file
        return None
    return asked


class SearchLab:
    """The data, the device, and what a search keeps and counts.

    Parameters
    ----------
    folder : Path
        Of the states that a killed search goes on from.
    asked : mapping
        Everything that decides what is found, plain JSON; kept states of another are refused.

    Attributes
    ----------
    weights, architectures : Samples
        The two halves of the training split, on the device; which is which depends on the seed.
    validation : Split
        For choosing among what was found.
    costs : dict of str to Cost
        By phase.
    histories : dict of str to list
        Rows by epoch, of each part of the search.
    """

    def __init__(
        self, data: Dataset, *, members: int, seed: int, device: torch.device, folder: Path, reporter: Reporter,
        asked: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self.data, self.shape, self.classes = data, data.shape, len(data.classes)
        self.members, self.seed, self.device = members, seed, device
        self.folder, self.reporter = folder, reporter
        self.asked: dict[str, Any] = json.loads(json.dumps(asked))
        self.costs: dict[str, Cost] = {}
        self.histories: dict[str, list[dict[str, float]]] = {}
        self._running: dict[str, float] = {}
        self.validation: Split = data.split("validation")
        train = data.split("train")
        if len(train) < 4:
            raise UserError(
                f"dataset '{data.name}' has {len(train)} training samples; a search needs two halves of two or more, "
                "as batch norm learns nothing from one."
            )
        order = torch.randperm(len(train), generator=self.generator(HALVES))
        half = len(train) // 2
        self.weights = Samples.of(train.select(order[:half]), device)
        self.architectures = Samples.of(train.select(order[half:]), device)

    @property
    def key(self) -> str:
        """The content key of everything that decides what is found."""
        return digest(self.asked)

    def generator(self, *numbers: int) -> torch.Generator:
        """Return a CPU generator that depends on the seed and up to two numbers alone."""
        first, second = (*numbers, 0, 0)[:2]
        return generator_of(self.seed, first, second)

    def checkpoint(self, name: str) -> Checkpoint:
        """Return where the part ``name`` of the search is kept."""
        return Checkpoint(self, name)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the seconds of the block as those of a phase."""
        cost = self.costs.setdefault(name, Cost())
        self._running[name] = time.perf_counter()
        try:
            yield
        finally:
            cost = self.costs.setdefault(name, Cost())
            cost.seconds += time.perf_counter() - self._running.pop(name)

    def count(self, name: str, forward: int = 0, backward: int = 0) -> None:
        """Count passes of a phase, in samples."""
        cost = self.costs.setdefault(name, Cost())
        cost.forward += forward
        cost.backward += backward

    def costs_now(self) -> dict[str, Cost]:
        """Return the costs by phase, those of a running one up to now."""
        now = time.perf_counter()
        return {
            name: Cost(
                cost.seconds + (now - self._running[name] if name in self._running else 0.0),
                cost.forward,
                cost.backward,
            )
            for name, cost in self.costs.items()
        }

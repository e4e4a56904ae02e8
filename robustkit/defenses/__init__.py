"""Defences: one file each, found by the registry; a loss, or what makes the inputs.

A *loss* turns member outputs into one scalar; *inputs* make images. ``adp`` is a loss, ``advt-fgsm`` makes inputs (and
trains on them with the plain ensemble's loss); ``adp+advt-fgsm`` is both: one of either kind, in any order. A defence
knows nothing of the optimiser: what it needs of the training loop it states in its decorator. Names, parameters
and facts are known without importing torch.

Facts that a defence may state in its decorator, and what the training loop does about them:

=============== ========================================================================================
``role``        ``loss`` (default): ``f(outputs, **params) -> Loss``; ``inputs``:
                ``f(ensemble, x, y, *, generator, **params) -> (x, y)``, the batch to train on
``fresh``       of ``inputs``: how many new samples the batch is made from, as a share of the batch size
``own_batches`` each member has a shuffled batch of its own: ``outputs.logits`` (M, B, L), ``outputs.y`` (M, B)
``one_by_one``  of ``inputs``: members are trained one after another, each from the one before's weights; ``ensemble``
                holds those so far, drawn with equal probabilities
``fusion``      fusion rule of the ensemble where none is asked for
``chances``     name of the module's function ``f(ensemble, x, y, *, generator, **params)`` that finds, once trained,
                with what probability each member of fusion rule ``random`` is drawn; of the parameters ``images``
                says how many training images it is given
``needs``       of ``maps``, ``features``, ``outliers``: checked (maps), or computed and put into the outputs
``companion``   name of the module's function ``f(features, classes) -> nn.Module`` that is trained along
``members``     the smallest number of members that makes sense
``check``       name of the module's function ``f(params, members, classes)`` that raises a UserError
``paper``       name of the recipe (:mod:`robustkit.training.recipes`) that ``--recipe paper`` stands for
``paper_own``   what differs from that recipe, by dataset (``*``: all others): fields, and ``params`` of the defence
=============== ========================================================================================
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from robustkit.base.errors import UserError
from robustkit.base.registry import Entry, Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

PLAIN = "baseline"  # the loss of a defence that only makes inputs
OF_INPUTS = ("fresh", "own_batches", "one_by_one")  # facts of a maker of inputs that the training loop reads


@dataclass(frozen=True)
class Batch:
    """Images (B, C, H, W) in [0, 1] and their labels (B,)."""

    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Outputs:
    """What a loss sees of one training batch.

    Attributes
    ----------
    logits : Tensor
        Member logits (M, B, L).
    y : Tensor
        Labels (B,); (M, B) where each member has a batch of its own.
    members : sequence of nn.Module
        The members themselves, in training mode, for maps and input gradients; empty where only logits are known.
    shared : Batch or None
        The batch that all members share, for losses that ask the members again.
    features : tuple of Tensor
        Each member's inputs of its last linear layer, (B, D), with their graph; empty unless needed.
    outliers : Tensor or None
        Member logits of outliers, (M, O, L), from the same forward pass.
    companion : nn.Module or None
        The module that the defence trains along.
    smoothing : float
        Label smoothing of every cross-entropy, in [0, 1).
    trained : float
        How far the training is: 0 in its first epoch, 1 in its last, and where there is no training around it.
    """

    logits: Tensor
    y: Tensor
    members: Sequence[nn.Module] = ()
    shared: Batch | None = None
    features: tuple[Tensor, ...] = ()
    outliers: Tensor | None = None
    companion: nn.Module | None = None
    smoothing: float = 0.0
    trained: float = 1.0


@dataclass(frozen=True)
class Loss:
    """A scalar to minimise, and its detached parts by name, for the progress line and the history.

    ``whole`` is False where a term does not count yet: such an epoch is none that a training may keep.
    """

    total: Tensor
    parts: dict[str, Tensor]
    whole: bool = True


class DefenseRegistry(Registry):
    """The registry of defences; ``loss+inputs`` is one of either kind at once."""

    def entry(self, name: str) -> Entry:
        """Return what is known of a defence; the parameters of a composed one are called ``adp.alpha``."""
        if "+" not in name:
            return super().entry(name)
        loss, inputs = self.parts(name)
        assert inputs is not None
        both = (loss, inputs)
        params = tuple(replace(p, name=f"{e.name}.{p.name}") for e in both for p in e.params)
        facts = {**loss.facts, "fresh": inputs.facts.get("fresh", 1.0)}
        return Entry(
            self.kind, f"{loss.name}+{inputs.name}", "", "", f"{loss.summary} On: {inputs.summary}", facts, params
        )

    def parts(self, name: str) -> tuple[Entry, Entry | None]:
        """Return the loss and the maker of inputs that a name stands for; a :class:`UserError` if it makes no sense."""
        entries = [super(DefenseRegistry, self).entry(part.strip()) for part in name.split("+")]
        losses = [e for e in entries if e.facts.get("role", "loss") == "loss"]
        inputs = [e for e in entries if e.facts.get("role", "loss") == "inputs"]
        if len(losses) > 1 or len(inputs) > 1:
            kind, doubled = ("loss", losses) if len(losses) > 1 else ("maker of inputs", inputs)
            raise UserError(
                f"defense '{name}' has more than one {kind} ({', '.join(e.name for e in doubled)}); compose one loss "
                f"with one maker of inputs, like adp+advt-fgsm."
            )
        loss = losses[0] if losses else super().entry(PLAIN)
        if inputs and loss.facts.get("own_batches"):
            raise UserError(
                f"defense '{name}': {loss.name} gives each member a batch of its own and has no inputs made."
            )
        if losses and inputs and inputs[0].facts.get("own_batches"):
            raise UserError(
                f"defense '{name}': {inputs[0].name} gives each member images of its own, but {loss.name} compares "
                "members on the same images; compose it with advt-fgsm or advt-pgd."
            )
        if losses and inputs and inputs[0].facts.get("one_by_one"):
            raise UserError(
                f"defense '{name}': {inputs[0].name} trains one member at a time, so that {loss.name} would have none "
                f"to compare it with; use {inputs[0].name} alone."
            )
        return loss, inputs[0] if inputs else None


defense = DefenseRegistry("defense", "robustkit.defenses")
get = defense.get


@dataclass(frozen=True)
class Method:
    """A defence ready to train with: its two functions with their parameters bound, and the facts of both.

    ``module`` is that of the loss, where its companion is made; ``chances`` finds probabilities of members.
    """

    loss: Callable[[Outputs], Loss]
    inputs: Callable[..., tuple[Tensor, Tensor]] | None
    facts: Mapping[str, Any]
    module: str
    params: Mapping[str, Any]
    chances: functools.partial[tuple[float, ...]] | None = None


def method(name: str, params: Mapping[str, Any]) -> Method:
    """Return the functions of a defence with their parameters bound; ``params`` as its ``Spec`` holds them."""
    loss, inputs = defense.parts(name)
    facts = {
        **loss.facts,
        **{k: v for k, v in (inputs.facts if inputs else {}).items() if k in OF_INPUTS},
    }
    own = own_params(name, params, loss.name)
    made, chances = None, None
    if inputs:
        given = own_params(name, params, inputs.name)
        made = _bound(inputs, given)
        if "chances" in inputs.facts:
            find = getattr(importlib.import_module(inputs.module), inputs.facts["chances"])
            chances = functools.partial(find, **{**inputs.defaults(), **given})
    return Method(_bound(loss, own), made, facts, loss.module, own, chances)


def own_params(name: str, params: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Return the parameters of one part of a defence: ``adp.alpha`` of ``adp+advt-fgsm`` is ``alpha`` of ``adp``."""
    if "+" in name:
        return {key.removeprefix(f"{part}."): value for key, value in params.items() if key.startswith(f"{part}.")}
    return dict(params) if name == part else {}


def check(name: str, params: Mapping[str, Any], members: int, classes: int) -> None:
    """Raise a :class:`UserError` if a defence makes no sense for so many members and classes."""
    loss, inputs = defense.parts(name)
    for entry in (loss, inputs) if inputs else (loss,):
        least = entry.facts.get("members", 1)
        if members < least:
            # Cause: its term is a distance between members, which one member does not have.
            raise UserError(
                f"defense '{entry.name}' compares members and needs at least {least} of them, not {members}; "
                f"use --members {max(least, 3)}, or --defense baseline."
            )
        if "check" in entry.facts:
            fits = getattr(importlib.import_module(entry.module), entry.facts["check"])
            fits({**entry.defaults(), **own_params(name, params, entry.name)}, members, classes)


def _bound(entry: Entry, params: Mapping[str, Any]) -> Callable[..., Any]:
    return functools.partial(defense.get(entry.name), **params)

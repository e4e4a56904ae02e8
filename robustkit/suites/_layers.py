"""How alike the layers of the members are: one pass with hooks, Gram matrices per batch, HSICs summed over batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from robustkit.base.progress import Advance
from robustkit.data import Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.functional.attribution import evaluating
from robustkit.functional.precision import wide
from robustkit.functional.sending import sent
from robustkit.metrics.cka import batches, hsic

WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)  # what they give is what their last part gave
FEWEST = 5  # layers that say something of a network
CHUNK = 2**16  # features that are in float64 at a time

Arrays = dict[str, npt.NDArray[Any]]
Hook = tuple[str, nn.Module, Tensor]


def layers_of(member: nn.Module, x: Tensor, most: int) -> list[str]:
    """Return the names of the layers that stand for a member, at most so many, in the order in which they finish.

    Candidates are convolutions, linear layers, and blocks that hold some of them; lists of modules do not count, nor
    does what returns the member's own output. Where there are too many, blocks stand for what is inside them: all
    candidates down to the deepest level of names (``layer1.0`` above ``layer1.0.conv1``) that leaves at most ``most``.
    Where that is fewer than five, the next level is thinned out evenly.
    """
    with evaluating(member), torch.no_grad(), _listening(member, [n for n, _ in member.named_modules() if n]) as seen:
        logits = member(x)
    names = [name for name, module, out in seen if _is_layer(module, out, logits, len(x))]
    names = list(dict.fromkeys(reversed(names)))[::-1]  # of a module that is called repeatedly, the last call
    taken: list[str] = []
    for depth in sorted({name.count(".") for name in names}):
        deeper = [name for name in names if name.count(".") <= depth]
        if len(deeper) > most:
            if len(taken) < FEWEST:
                taken = [deeper[at] for at in np.linspace(0, len(deeper) - 1, most).round().astype(int)]
            break
        taken = deeper
    return taken


def similarities(
    ensemble: Ensemble, split: Split, asked: Mapping[str, Any], device: torch.device, advance: Advance
) -> Arrays:
    """Return ``hsic`` (T, T), summed over batches, of all T layers of all members, and ``layers-M`` with their names.

    The batches are fixed by what was asked: minibatch CKA depends on them a little.
    """
    _, few, _ = split.batch(range(min(2, len(split))))
    names = [layers_of(member, sent(few, device), asked["most"]) for member in ensemble.members]
    total = np.zeros((sum(map(len, names)),) * 2)
    for part in batches(asked["samples"], asked["batch"]):
        _, x, _ = split.batch(range(part.start, part.stop))
        on = sent(x, device)
        grams = [gram for member, own in zip(ensemble.members, names, strict=True) for gram in _grams(member, own, on)]
        if grams:
            total += hsic(np.stack(grams))
        advance(part.stop - part.start)
    return {"hsic": total, **{f"layers-{at}": np.array(own, dtype=np.str_) for at, own in enumerate(names)}}


def _is_layer(module: nn.Module, out: Tensor, logits: Tensor, n: int) -> bool:
    if out.dim() < 2 or len(out) != n or not out.is_floating_point() or isinstance(module, LISTS):
        return False
    if isinstance(module, WEIGHTED):
        return True
    return out is not logits and any(isinstance(part, WEIGHTED) for part in module.modules())


def _grams(member: nn.Module, names: Sequence[str], x: Tensor) -> list[npt.NDArray[np.float64]]:
    """Return the Gram matrix (n, n) of each layer, float64, made at once: a later module may work in place."""
    with evaluating(member), torch.no_grad(), _listening(member, names, gram) as seen:
        member(x)
    found = {name: out for name, _, out in seen}
    return [found[name].cpu().double().numpy() for name in names]


def gram(features: Tensor) -> Tensor:
    """Return the Gram matrix (n, n) of the features of n samples, centred, in float64 where the device has it."""
    flat = features.flatten(1)
    total = wide(flat.new_zeros((len(flat), len(flat))))
    for part in torch.split(flat, CHUNK, 1):
        values = wide(part)
        values = values - values.mean(0)
        total += values @ values.T
    return total


@contextmanager
def _listening(member: nn.Module, names: Sequence[str], made: Any = None) -> Iterator[list[Hook]]:
    """Collect (name, module, output) of the named modules' calls, or what ``made`` makes of the output."""
    seen: list[Hook] = []

    def hook(name: str, module: nn.Module, out: object) -> None:
        if isinstance(out, Tensor):
            seen.append((name, module, made(out) if made else out))

    handles = [
        member.get_submodule(name).register_forward_hook(lambda module, _, out, name=name: hook(name, module, out))
        for name in names
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()

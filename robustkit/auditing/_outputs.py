"""Which of several outputs of a network are the logits: those that are right, among those with a column a class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from robustkit.auditing import comparing
from robustkit.auditing.adapting import Adapted, Preprocessing
from robustkit.auditing.behaviour import Finding
from robustkit.auditing.entries import entries, usual
from robustkit.auditing.trials import Trial, trial
from robustkit.base.errors import UserError

WHAT = "output"  # what the finding is about
FEW = 2  # images on which a network shows what it returns


@torch.no_grad()
def with_outputs(
    network: nn.Module, ways: Sequence[tuple[str, Preprocessing]], x: Tensor, y: Tensor, classes: int
) -> list[tuple[str, Preprocessing]]:
    """Return the ways to run a network, each with every output that may be the logits, the usual one first.

    These have as many columns as there are classes; where none has, as many as the labels need at least. Of a network
    that returns nothing else nothing is said.
    """
    answer = Adapted(network, ways[0][1]).to(x.device).answer(x[:FEW])
    columns = {name: rows.shape[1] for name, rows in entries(answer).items() if len(rows) == len(x[:FEW])}
    first = usual(answer)
    widest, low, high = max(columns.values(), default=0), int(y.min()), int(y.max())
    order = ways[0][1].columns
    if order and columns and widest <= max(order):
        raise UserError(f"the class order names output {max(order)}, but the model has {widest} outputs, from 0.")
    if columns and widest <= high and not order:
        raise UserError(_too_few(widest, low, high))
    fitting = [name for name, number in columns.items() if number == classes and not order]
    fitting = fitting or [name for name, number in columns.items() if number > max(order, default=high)]
    if fitting in ([], [first]):
        return list(ways)
    fitting.sort(key=lambda name: name != first)
    return [(way, replace(how, output=name)) for name in fitting for way, how in ways]


def _too_few(outputs: int, low: int, high: int) -> str:
    text = f"the model has {outputs} outputs, but the data has labels from {low} to {high}"
    if low >= 1 and high == outputs:
        return f"{text}: they seem to count from 1; give y - 1."
    return f"{text}; name the data that it was trained on with --dataset."


def settled(network: nn.Module, trials: list[Trial], x: Tensor, y: Tensor) -> tuple[list[Trial], Finding | None]:
    """Return the trials of the output that is taken, and what is said of it; nothing, where there is no other.

    The usual one is taken, the first or ``logits``, unless images x (N, C, H, W) with labels y (N,) prove that another
    is right on more of them. Where they prove it of none, and the others do not answer the same, that is a concern.
    """
    names = list(dict.fromkeys(t.how.output for t in trials))
    if names == [""]:
        return trials, None
    if len(names) == 1:
        text = "the only one with a column for each class"
        return trials, Finding(WHAT, names[0], "detected", text)
    best = [max((t for t in trials if t.how.output == name), key=lambda t: t.score) for name in names]
    best = [trial(network, t.normalize, t.how, x, y) if len(x) > t.n else t for t in best]
    best.sort(key=lambda t: t.renamed)  # logits in the data's order come before others that are as good
    level = comparing.LEVEL / len(trials)
    most = max(best, key=lambda t: t.score)
    taken = most if comparing.better(most.right, best[0].right) < level else best[0]
    # Of outputs that answer alike, one that an attack can follow: the others are made for people to read.
    alike = [taken, *(t for t in best if t is not taken and (t.right == taken.right).all())]
    taken = next((t for t in alike if _has_gradient(network, t.how, x)), taken)
    open_ = [t for t in best if comparing.better(taken.right, t.right) >= level and (t.right != taken.right).any()]
    text = ", ".join(f"{t.how.output} {t.score:.3f}" for t in best)
    text = f"accuracy of those with a column for each class, on {taken.n} clean images: {text}"
    if open_:
        text += "; these images do not prove which one is meant: return that one alone"
    finding = Finding(WHAT, taken.how.output, "assumed" if open_ else "detected", text, bool(open_))
    return [t for t in trials if t.how.output == taken.how.output], finding


def _has_gradient(network: nn.Module, how: Preprocessing, x: Tensor) -> bool:
    with torch.enable_grad():
        return bool(Adapted(network, how).to(x.device)(x[:FEW].detach().requires_grad_()).requires_grad)

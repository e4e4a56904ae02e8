"""Which of the ways to run a chain of layers is the right one: its accuracy on clean images says."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from robustkit.auditing._chain import ACTIVATIONS, Chain
from robustkit.auditing.adapting import Adapted, Preprocessing
from robustkit.auditing.behaviour import Finding
from robustkit.auditing.detecting import QUICK
from robustkit.auditing.trials import BATCH, Given, statistics
from robustkit.base.errors import UserError

FEW, MANY, LEFT = 64, 256, 6  # images on which all are tried, and on which so many that are left are told apart
CLEAR = 2.0  # standard errors by which one has to be better than another, or than a constant answer


def judge(ways: Sequence[Chain], x: Tensor, y: Tensor, given: Given, name: str) -> tuple[Chain, Finding]:
    """Return the most accurate way to run a chain, and a finding.

    Among those that are not clearly less accurate, the labels' likelihood decides; a concern where it cannot.

    Parameters
    ----------
    x, y : Tensor
        Clean images (N, C, H, W) in [0, 1] and their labels (N,).
    name : str
        Of the file, for the message.

    Raises
    ------
    UserError
        If none is better than always answering with the most frequent class.
    """
    few = [_best(chain, x[:FEW], y[:FEW], given).mean(1).tolist() for chain in ways]
    left = [ways[index] for index in sorted(range(len(ways)), key=lambda index: few[index], reverse=True)[:LEFT]]
    x, y = x[:MANY], y[:MANY]
    answers = [_best(chain, x, y, given) for chain in left]
    right, likelihood = (torch.stack([answer[at] for answer in answers]) for at in (0, 1))
    top = right[int(right.mean(1).argmax())]
    n, accuracy, guess = len(y), float(top.mean()), float(torch.bincount(y.cpu()).max()) / len(y)
    if accuracy - guess < CLEAR * (guess * (1 - guess) / n) ** 0.5:
        raise UserError(
            f"'{name}' fits no known architecture, and as a plain chain of its {len(ways[0].layers)} layers none of "
            f"the {len(ways)} ways to run it that the shapes allow is better than a guess (accuracy {accuracy:.3f}); "
            "name its code with --arch path/to/file.py:factory."
        )
    equal = [index for index, one in enumerate(right) if not _clearly(top - one)]
    best = max(equal, key=lambda index: float(likelihood[index].mean()))
    text = f"accuracy {float(right[best].mean()):.3f} on {n} clean images, {len(ways)} ways were tried"
    text += f"; another activation than {', '.join(ACTIVATIONS)} would look like one of them: --arch names the code"
    others = sorted((i for i in range(len(left)) if i != best), key=lambda i: float(right[i].mean()), reverse=True)
    if others:
        text += f"; most accurate of the others: {left[others[0]]} {float(right[others[0]].mean()):.3f}"
    close = [i for i in equal if i != best and not _clearly(likelihood[best] - likelihood[i])]
    if close:
        text += f"; as likely by the labels: {left[close[0]]}"
    return left[best], Finding("layers between the weights", str(left[best]), "detected", text, bool(close))


def _clearly(gains: Tensor) -> bool:
    """Return whether the mean of paired differences (N,) is more than two standard errors above zero."""
    return float(gains.mean()) > CLEAR * float(gains.std()) / math.sqrt(len(gains))


@torch.no_grad()
def _best(chain: Chain, x: Tensor, y: Tensor, given: Given) -> Tensor:
    """Return which images it answers rightly and the log-likelihood of their labels (2, N), normalised the best way."""
    network = chain.build().to(x.device)
    channels = chain.channels
    size = None if chain.size == tuple(x.shape[2:]) else chain.size
    found = []
    for known in [given.normalize] if given.normalize else QUICK:
        mean, std = statistics(known, channels)
        if len(mean) not in (1, channels):
            continue
        adapted = Adapted(network, Preprocessing(mean, std, given.scale or 1.0, "rgb", channels, size)).to(x.device)
        logits = torch.cat([adapted(part) for part in torch.split(x, BATCH)]).double()
        if logits.shape[1] == 1:  # of two classes: a logit, since a sigmoid has no weights to be rebuilt from
            logits = torch.cat([torch.zeros_like(logits), logits], 1)
        likelihood = logits.log_softmax(1).gather(1, y[:, None])[:, 0]
        found.append(torch.stack([(logits.argmax(1) == y).double(), likelihood]).cpu())
    return max(found, key=lambda pair: (float(pair[0].mean()), float(pair[1].mean())))

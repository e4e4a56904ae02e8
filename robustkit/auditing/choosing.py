"""Which of several networks a file means, raw weights or their average: the user says, or clean accuracy decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.auditing._chain import Chain
from robustkit.auditing._judging import judge
from robustkit.auditing._limits import clean
from robustkit.auditing._one_output import as_two_classes
from robustkit.auditing.adapting import Adapted, Preprocessing
from robustkit.auditing.behaviour import Finding
from robustkit.auditing.detecting import MOST, Detected, detect
from robustkit.auditing.reading import ModelInFile
from robustkit.auditing.trials import BATCH, Given
from robustkit.base.errors import UserError

RAW, AVERAGE = "raw", "ema"


@dataclass(frozen=True)
class Member:
    """A network, where it comes from (as in :class:`~robustkit.records.schema_suites.AuditResult`), and its name.

    Attributes
    ----------
    identity : str
        Of a function without weights: what it answers, hashed.
    normalize : str
        Of a normaliser that the file has beside the weights, or "".
    version : str
        What these weights are called among the ``versions`` that the file holds of them.
    versions : tuple of Member
        The others that accuracy may choose.
    seen : tuple of Member
        Those that the user did not choose: their accuracy is named all the same.
    ways : tuple of Chain
        Where the network was rebuilt from shapes: the ways to run it, of which accuracy chooses one.
    findings : tuple of Finding
        What was found out of the network itself, before the way to run it.
    """

    network: nn.Module
    facts: Mapping[str, Any]
    arch: str
    identity: str = ""
    normalize: str = ""
    version: str = ""
    versions: tuple[Member, ...] = ()
    seen: tuple[Member, ...] = ()
    ways: tuple[Chain, ...] = ()
    findings: tuple[Finding, ...] = ()


def versions_of(found: ModelInFile, weights: str | None) -> tuple[list[ModelInFile], list[ModelInFile]]:
    """Return the versions of a file's weights that may be meant, the file's first one first, and the others.

    Parameters
    ----------
    weights : str or None
        ``raw``, ``ema`` (an average over training steps) or what the file calls them; None: whichever is most accurate.

    Raises
    ------
    UserError
        If the file holds no such weights; the message names those that it holds.
    """
    every = [found, *found.versions]
    if weights is None:
        return every, []
    if weights in (RAW, AVERAGE):
        chosen = [one for one in every if one.averaged == (weights == AVERAGE)]
    else:
        chosen = [one for one in every if one.version == weights or weights in one.version.split(".")]
    if not chosen:
        held = ", ".join(f"{clean(one.version) or 'its only weights'} ({_kind(one.averaged)})" for one in every)
        raise UserError(
            f"'{clean(found.path or found.name, 200)}' holds no weights '{clean(weights)}'; it holds {held}."
        )
    return chosen, [one for one in every if not any(one is other for other in chosen)]


def _kind(averaged: bool) -> str:
    return AVERAGE if averaged else RAW


def choose(member: Member, x: Tensor, y: Tensor, given: Given, classes: Sequence[str] = ()) -> tuple[Member, Detected]:
    """Return the most accurate version of a member, with a finding that names them all, and how it is to be run.

    Parameters
    ----------
    x, y : Tensor
        Clean images (N, C, H, W) in [0, 1] and their labels (N,).
    classes : sequence of str
        The classes of the data.
    """
    tried = [_detected(one, x, y, given, classes) for one in (member, *member.versions)]
    best, found = max(tried, key=lambda pair: pair[1].trials[0].accuracy)
    if len(tried) == 1 and not member.seen:
        return best, found
    accuracies = [(one.version, how.trials[0].accuracy) for one, how in tried]
    n = found.trials[0].n
    accuracies += [(one.version, _accuracy(one.network, found.how, x[:n], y[:n])) for one in member.seen]
    text = ", ".join(f"{clean(name)} {accuracy:.3f}" for name, accuracy in accuracies)
    evidence = f"clean accuracy on {n} images: {text}; --weights chooses"
    finding = Finding("weights", clean(best.version), "detected" if len(tried) > 1 else "given", evidence)
    return replace(best, findings=(finding, *best.findings)), found


def _detected(member: Member, x: Tensor, y: Tensor, given: Given, classes: Sequence[str]) -> tuple[Member, Detected]:
    """Return the network as it is to be run, and how it was found out."""
    own = replace(given, normalize=given.normalize or member.normalize or None)
    network, first = member.network, list[Finding]()
    if member.ways:
        chain, finding = judge(member.ways, x, y, own, str(member.facts["name"]))
        network = chain.build()
        first.append(finding)
    network, one_output = as_two_classes(network.to(x.device).eval(), x, y)
    first += [one_output] if one_output else []
    found = detect(network, x, y, own, classes)
    if member.normalize and not given.normalize:  # nobody named it
        found = replace(found, findings=tuple(_from_file(finding) for finding in found.findings))
    return replace(member, network=network, findings=tuple(first)), found


def _from_file(finding: Finding) -> Finding:
    if finding.what != "normalisation":
        return finding
    return replace(finding, how="detected", evidence=f"mean and deviation lie in the file; {finding.evidence}")


@torch.no_grad()
def _accuracy(network: nn.Module, how: Preprocessing, x: Tensor, y: Tensor) -> float:
    adapted = Adapted(network.eval(), how).to(x.device)
    right = sum(int((adapted(a).argmax(1) == b).sum()) for a, b in _batches(x[:MOST], y[:MOST]))
    return right / len(x[:MOST])


def _batches(x: Tensor, y: Tensor) -> Sequence[tuple[Tensor, Tensor]]:
    return list(zip(torch.split(x, BATCH), torch.split(y, BATCH), strict=True))

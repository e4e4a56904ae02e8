"""Names that the command line checks before torch is imported. A test holds them equal to what they name."""

from __future__ import annotations

from typing import Literal, get_args

Fusion = Literal["mean-prob", "mean-logit", "median", "geometric-mean", "majority", "crossmax", "random"]
Norm = Literal["linf", "l2"]  # of the attacks that keep to a budget
ThreatNorm = Literal["linf", "l2", "l1", "l0"]  # in which an ensemble can be evaluated
Speed = Literal["off", "auto", "max"]
Trust = Literal["quick", "full", "off"]  # how much the checks may cost
ChannelOrder = Literal["rgb", "bgr"]
Layout = Literal["npy", "folders"]
Scale = Literal["small", "paper"]  # of a reproduction
OutputKind = Literal["logits", "probabilities", "log-probabilities"]

FUSIONS: tuple[Fusion, ...] = get_args(Fusion)
VOTES = ("majority", "median", "crossmax")  # of them: those that a single member does not move
NORMS: tuple[Norm, ...] = get_args(Norm)
THREAT_NORMS: tuple[ThreatNorm, ...] = get_args(ThreatNorm)
SPEEDS: tuple[Speed, ...] = get_args(Speed)
TRUST: tuple[Trust, ...] = get_args(Trust)
SUITES = (
    "attacks",
    "transfer",
    "corruptions",
    "detection",
    "ood",
    "calibration",
    "diversity",
    "certified",
    "smoothing",
)
PROOFS = ("certified", "smoothing")  # of them: what only runs where it is named, since few networks have bounds
FORMATS = ("html", "md", "tex", "csv", "figures")  # of a report, beside results.json
ALL = "all"  # every suite but those
DEFAULT_SUITES = ("attacks", "transfer")
ESCALATION = 20_000.0  # forward passes for each sample that an escalation may cost at each eps
TARGETS = ("random", "least-likely", "next-best")  # or the number of a label
LOSSES = ("ce", "margin", "dlr")
OPTIMISERS = ("adam", "sgd", "adabelief")
SCHEDULES = ("steps", "cosine", "constant")

# Type aliases that method signatures use, written out, so that the registry can read them without importing them.
ALIASES = {
    "Detector": "Literal['log-ed', 'msp', 'mal', 'min-max-logit', 'energy', 'entropy', 'mutual-information']",
    "Table": "Literal['auto', 'imagenet', 'cifar']",
    "Norm": "Literal['linf', 'l2']",
    "Loss": "Literal['ce', 'margin', 'dlr']",
}

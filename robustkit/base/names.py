"""Names that the command line checks before torch is imported. A test holds them equal to what they name."""

from __future__ import annotations

FUSIONS = ("mean-prob", "mean-logit", "median", "geometric-mean", "majority")
SUITES = ("attacks", "transfer", "corruptions", "detection", "ood", "calibration", "diversity")
ALL = "all"  # every suite
DEFAULT_SUITES = ("attacks", "transfer")
NORMS = ("linf", "l2")
SPEEDS = ("off", "auto", "max")
TRUST = ("quick", "full", "off")  # how much the checks may cost
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

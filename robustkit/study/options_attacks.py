"""Options of attacks, suites and verdicts, each stated once: name, type, default, help, and what it makes sense with.

A class is a group: its docstring is the heading under which ``--help`` shows its options. What each command takes is
put together in :mod:`robustkit.study.config`. Adding an option is adding a field here, and the code that reads it.
Never imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from robustkit.base.configuration import Configuration
from robustkit.base.names import ESCALATION, ThreatNorm, Trust
from robustkit.base.option import Option
from robustkit.base.types import Names, Settings

CORRUPTIONS, OOD = ("corruptions",), ("ood",)
ATTACKING = ("attacks", "transfer", "detection")
SUITES = Option(
    "attacks, transfer, corruptions, detection, ood, calibration, diversity, or all of these; certified, smoothing.",
    default="attacks,transfer",
)


@dataclass(frozen=True, kw_only=True)
class Threat(Configuration):
    """Threat model."""

    eps: Annotated[
        str | float | Iterable[str | float] | None,
        Option(
            "Budgets, like 2/255,4/255,8/255, in l0 a number of values; of several norms linf=8/255,l2=0.5.",
            default="the dataset's",
        ),
    ] = None
    norm: Annotated[ThreatNorm | None, Option("Norm of the perturbations.", default="the dataset's", axis=True)] = None
    norms: Annotated[
        Names | None,
        Option("Several norms, like linf,l2,l1: each is evaluated, and who withstands all.", unless=("norm",)),
    ] = None
    targeted: Annotated[
        bool, Option("White-box attacks aim at random labels.", suites=ATTACKING, unless=("target",))
    ] = False
    target: Annotated[
        str | int | None,
        Option(
            "White-box attacks aim at random, least-likely or next-best labels, or at the class of this number.",
            suites=ATTACKING,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Attacks(Configuration):
    """Attacks."""

    attacks: Annotated[Names | None, Option("Attacks, like fgsm,pgd,mim.", default="pgd,mim", suites=ATTACKING)] = None
    preset: Annotated[
        str | None,
        Option("The attack grid of a published table: adp-table2, adp-table4, adp-table5.", suites=ATTACKING),
    ] = None
    backend: Annotated[str, Option("Whose attacks run: native, torchattacks or foolbox.", suites=ATTACKING)] = "native"
    reference: Annotated[bool, Option("Run a stronger attack, quorum, beside the attacks.")] = True
    eot: Annotated[
        int, Option("Passes of a randomised model that every attack averages.", least=1, suites=ATTACKING)
    ] = 1


@dataclass(frozen=True, kw_only=True)
class Assignments(Configuration):
    """Attacks."""

    settings: Annotated[
        Settings | None,
        Option(
            "A parameter of a method, like pgd.steps=50, adp.alpha=1, train.lr=1e-3; repeatable.",
            flag="--set",
            read=list[str],
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Suites(Configuration):
    """Suites."""

    suites: Annotated[Names | None, SUITES] = None
    corruptions: Annotated[
        Names | None,
        Option("Suites of natural corruptions, like cifar-c,cifar-c-bar.", default="by image size", suites=CORRUPTIONS),
    ] = None
    corruption_dir: Annotated[
        str | Path | None, Option("A published set of corrupted images to read, like CIFAR-10-C.", suites=CORRUPTIONS)
    ] = None
    corruption_reference: Annotated[
        str | None,
        Option(
            "Divide errors by this ensemble's, or by alexnet's, for the mCE.", default="by the data", suites=CORRUPTIONS
        ),
    ] = None
    ood: Annotated[
        Names | None,
        Option(
            "Out-of-distribution sets, like near:fashionmnist,far:imagefolder:PATH.", default="what needs no files",
            suites=OOD,
        ),
    ] = None  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Frost(Configuration):
    """Suites."""

    frost_dir: Annotated[
        str | Path | None,
        Option("Folder of the photographs frost1.png to frost5.jpg.", default="grown from noise", suites=CORRUPTIONS),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Verdicts(Configuration):
    """Trust."""

    trust: Annotated[
        Trust, Option("Cost of the checks: quick (about 30 % of the attacks' time), full (about as much), or off.")
    ] = "quick"
    escalate: Annotated[
        bool,
        Option(
            "Lower each worst case: by what its checks advise, and by what breaks most a pass.",
            suites=("attacks",),
        ),
    ] = False
    escalate_budget: Annotated[
        float,
        Option(
            "No attack begins at an eps where so much is spent; above 20000 recombine, a slow last resort, follows on "
            "ensembles too.",
            unit="forward passes for each sample",
            needs=("escalate",),
        ),
    ] = ESCALATION

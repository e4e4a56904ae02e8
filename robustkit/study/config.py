"""What each command and function takes, put together from groups of options."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from robustkit.base.configuration import Configuration
from robustkit.base.names import Layout, Scale
from robustkit.base.option import Option
from robustkit.base.types import Names, Paths
from robustkit.study.options_attacks import SUITES, Assignments, Attacks, Frost, Suites, Threat, Verdicts
from robustkit.study.options_certify import Proofs
from robustkit.study.options_models import (
    Audited,
    AuditedModels,
    Fused,
    Method,
    Network,
    Preprocessing,
    Stored,
    Trained,
)
from robustkit.study.options_run import (
    DATASET,
    MARKS_HELP,
    OUT,
    AttackSeed,
    Batches,
    Data,
    DataLike,
    Execution,
    Formats,
    Gates,
    Kept,
    Machine,
    Pace,
    Placed,
    Printed,
    Samples,
    Seeds,
    Watched,
    Workers,
)

Out = Annotated[str | Path, OUT]
MODELS, SHOWN_SUITES, OUTPUT = "Models", "Suites", "Output"

# Of the groups that a class is made of, the last is shown first.


@dataclass(frozen=True, kw_only=True)
class Evaluation(
    Watched, Placed, Formats, Kept, Gates, Execution, Workers, Batches, Pace, AttackSeed, Machine, Verdicts, Frost,
    Proofs, Suites, Assignments, Attacks, Threat, Samples, Data, Fused,
):  # fmt: skip
    """What ``evaluate`` and ``audit`` share."""

    out: Out = Path("robustkit-out")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(Evaluation, Seeds, Trained, Network, Stored, Method):
    """``robustkit evaluate``."""


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand(Printed, EvaluateConfig):
    """``robustkit evaluate`` with what only the command takes."""


@dataclass(frozen=True, kw_only=True)
class AuditConfig(Evaluation, Preprocessing, Audited, AuditedModels):
    """``robustkit audit``."""

    dataset: Annotated[str | DataLike, DATASET] = field(kw_only=False)
    suites: Annotated[
        Names | None,
        Option(SUITES.help, default="all; ood with --ood only; transfer and diversity of two or more members"),
    ] = None
    n: Annotated[int | None, Option("Only the first N test samples; in Python None: all.", least=1)] = 256
    force: Annotated[
        bool,
        Option(
            "Evaluate a model even where channels, classes or accuracy say that the data are not its own, and write to "
            "--out even if it holds something else.", group=OUTPUT,
        ),
    ] = False  # fmt: skip
    out: Out = Path("robustkit-audit")


@dataclass(frozen=True, kw_only=True)
class AuditCommand(Printed, AuditConfig):
    """``robustkit audit`` with what only the command takes."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Watched, Placed, Execution, Pace, Seeds, Machine, Assignments, Data, Fused, Trained, Network):
    """``robustkit train``."""

    defense: Annotated[
        str, Option("The defence to train with, as `list defenses` names it.", group=MODELS, axis=True)
    ] = "adp"
    recipe: Annotated[
        Literal["paper"] | None,
        Option(
            "The recipe and parameters of the defence's paper, but what is set here.",
            default="the dataset's",
            group=MODELS,
        ),
    ] = None
    out: Annotated[str | Path, Option("Folder of the checkpoint.", group=OUTPUT)] = Path("robustkit-ensemble")


@dataclass(frozen=True, kw_only=True)
class SearchConfig(Watched, Placed, Execution, Workers, Pace, Machine, Assignments, Data, Fused, Trained):
    """``robustkit search``."""

    method: Annotated[
        str, Option("A method, as `search list` names it.", positional=True, label="search method", group="Search")
    ] = field(kw_only=False)
    search_epochs: Annotated[
        int | None,
        Option("Epochs of the search, like --set darts.epochs.", default="the method's", least=1, group="Search"),
    ] = None
    out: Annotated[str | Path, Option("Folder of the ensemble, its candidates and search.json.", group=OUTPUT)] = Path(
        "robustkit-search"
    )


@dataclass(frozen=True, kw_only=True)
class SelfTestConfig(Watched, Workers, Machine, Samples, Data):
    """``robustkit bench --self-test``."""

    arch: Annotated[
        str, Option("Architecture of the models that the faults are planted in.", label="architecture", group=MODELS)
    ] = "lenet"
    epochs: Annotated[int, Option("Training epochs of the two sound ensembles.", least=1, group=MODELS)] = 20
    n: Annotated[int, Option("Test samples.", least=1)] = 128
    out: Annotated[str | Path, Option("Folder of self-test.json.", group=OUTPUT)] = Path("robustkit-self-test")


@dataclass(frozen=True, kw_only=True)
class BenchConfig(SelfTestConfig):
    """``robustkit bench``."""

    self_test: Annotated[
        bool, Option("Evaluate planted faults, and say which of them the verdicts catch.", group="Benchmark")
    ] = False


@dataclass(frozen=True, kw_only=True)
class CorruptConfig(Watched, Machine, Frost, Samples, Data):
    """``robustkit corrupt``."""

    dataset: Annotated[str, Option("digits, cifar10, imagefolder:PATH, npz:PATH, ...", positional=True)] = field(
        kw_only=False
    )
    out: Annotated[str | Path, Option("Folder of the corrupted copy.", positional=True, group=OUTPUT)] = field(
        kw_only=False
    )
    suites: Annotated[
        Names | None,
        Option("Suites, like cifar-c,cifar-c-bar.", flag="--suite", default="by image size", group=SHOWN_SUITES),
    ] = None
    layout: Annotated[
        Layout | None,
        Option(
            "npy (like CIFAR-10-C) or folders (like ImageNet-C).",
            default="folders for image folders, else npy",
            group=OUTPUT,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ReproduceConfig(Watched, Execution, Workers, Machine, Assignments, Network, Samples, Data):
    """``robustkit reproduce``."""

    name: Annotated[
        str, Option("A table or figure, as `list reproductions` names it.", positional=True, group="Reproduction")
    ] = field(kw_only=False)
    dataset: Annotated[
        str | None, Option("mnist, cifar10, ..., or other data with --as.", default="the paper's first")
    ] = None
    stands_for: Annotated[
        str | None,
        Option("Whose column of the paper other data is compared with, like mnist.", flag="--as", group="Reproduction"),
    ] = None
    scale: Annotated[
        Scale,
        Option(
            "small: a small net, few epochs, a few hundred images; paper: the paper's own settings.",
            group="Reproduction",
        ),
    ] = "small"
    epochs: Annotated[int | None, Option("Training epochs, instead of the scale's.", least=1, group="Reproduction")] = (
        None
    )
    n: Annotated[int | None, Option("Test images, instead of the scale's; at most the paper's.", least=1)] = None
    out: Annotated[
        str | Path | None,
        Option(
            "Folder of the ensembles, evaluations, figures and reproduction.{json,md}.", default="by name", group=OUTPUT
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class CacheConfig(Configuration):
    """``robustkit cache``."""

    clear: Annotated[bool, Option("Delete what is shown; on a terminal you are asked before.", group="Cache")] = False
    older_than: Annotated[
        str | None, Option("Only what was last written longer ago: 90m, 12h, 30d, 2w.", group="Cache")
    ] = None
    kind: Annotated[
        Names | None, Option("Only ensembles, data, fastpath, forward or costs.json.", default="all", group="Cache")
    ] = None
    yes: Annotated[bool, Option("Delete without asking.", needs=("clear",), group="Cache")] = False


@dataclass(frozen=True, kw_only=True)
class ReportConfig(Placed, Formats):
    """``robustkit report``."""

    path: Annotated[
        str | Path, Option("The --out folder of an evaluation, or its runs.", positional=True, group=OUTPUT)
    ] = field(kw_only=False)
    out: Annotated[str | Path | None, Option("Where to write.", default="beside the runs", group=OUTPUT)] = None
    examples: Annotated[
        str | int | Iterable[int] | None,
        Option("Ids of samples whose images report.html shows besides, like 12,57 or 0-9.", group=OUTPUT),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ReportCommand(Printed, ReportConfig):
    """``robustkit report`` with what only the command takes."""


@dataclass(frozen=True, kw_only=True)
class CheckConfig(Gates):
    """``robustkit check``."""

    path: Annotated[
        str | Path, Option("The --out folder of an evaluation or audit, or its results.json.", positional=True)
    ] = field(kw_only=False)
    write_baseline: Annotated[
        str | Path | None, Option("Write what is right on which sample to this file, for a later --against-baseline.")
    ] = None
    formats: Annotated[
        Names | None, Option("junit, sarif, md: also written, as check.xml, check.sarif, check.md.", flag="--format")
    ] = None
    out: Annotated[str | Path | None, Option("Where to write these.", default="beside results.json", group=OUTPUT)] = (
        None
    )


@dataclass(frozen=True, kw_only=True)
class CompareConfig(Configuration):
    """``robustkit compare``."""

    paths: Annotated[
        Paths,
        Option("The --out folders of evaluations; the first is what the others are compared with.", read=list[Path],
               positional=True, group="Evaluations"),
    ] = field(kw_only=False)  # fmt: skip
    out: Annotated[str | Path, Option("Folder of compare.html and the tables.", group=OUTPUT)] = Path(
        "robustkit-compare"
    )
    formats: Annotated[
        Names, Option("html, md, tex, csv; tex-each: a LaTeX file a table.", flag="--format", group=OUTPUT)
    ] = ("html", "md", "csv")
    marks: Annotated[bool, Option(MARKS_HELP, group=OUTPUT)] = True


@dataclass(frozen=True, kw_only=True)
class LeaderboardConfig(Configuration):
    """``robustkit leaderboard``."""

    path: Annotated[
        str | Path, Option("A folder with evaluations and audits anywhere below it.", positional=True, group=OUTPUT)
    ] = field(kw_only=False)
    eps: Annotated[
        str | float | None, Option("Rank at this budget.", default="each evaluation's own headline", group="Ranking")
    ] = None
    norm: Annotated[
        Literal["l0", "l1", "l2", "linf"] | None,
        Option("Rank at budgets of this norm.", needs=("eps",), group="Ranking"),
    ] = None
    out: Annotated[
        str | Path | None,
        Option(
            "The page; a LaTeX table where it ends in .tex.", default="leaderboard.html in that folder", group=OUTPUT
        ),
    ] = None
    marks: Annotated[bool, Option(MARKS_HELP, group=OUTPUT)] = True

"""Options of data, machine and output, each stated once: name, type, default, help, and what it makes sense with.

A class is a group: its docstring is the heading under which ``--help`` shows its options. What each command takes is
put together in :mod:`robustkit.study.config`. Adding an option is adding a field here, and the code that reads it.
Never imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

from robustkit.base.configuration import Configuration
from robustkit.base.names import FORMATS, Speed
from robustkit.base.option import Option
from robustkit.base.options import LARGEST_SEED
from robustkit.base.progress import Reporter
from robustkit.base.types import Names
from robustkit.records.schema import Verdict
from robustkit.study.options_models import STORED

DataLike = Any  # :func:`robustkit.data.in_memory` says what of a program's own can be data
DATASET = Option(
    "digits, mnist, cifar10, ..., imagefolder:PATH or npz:PATH, as `list datasets` names them.", read=str, axis=True
)
AnyGates = TypeVar("AnyGates", bound="Gates")
GATES = ("minimum", "require", "against_baseline")  # the options that ask something of the numbers, and change none
OUT = Option("Folder of results.json, report.html, tables, figures and runs.", group="Output")


@dataclass(frozen=True, kw_only=True)
class Data(Configuration):
    """Data."""

    dataset: Annotated[str | DataLike, DATASET] = "digits"
    data_dir: Annotated[
        str | Path | None,
        Option("Where torchvision datasets lie: the root that holds MNIST/raw/...", default="in the cache"),
    ] = None
    download: Annotated[bool, Option("Fetch a torchvision dataset that is not there.")] = False
    image_size: Annotated[
        str | int | None,
        Option("Resize and crop an image folder's images: 224, or 256:224, as ImageNet is evaluated.", unit="pixels"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Samples(Configuration):
    """Data."""

    n: Annotated[int | None, Option("Only the first N test samples.", default="all", least=1)] = None


@dataclass(frozen=True, kw_only=True)
class Machine(Configuration):
    """Run."""

    device: Annotated[str, Option("auto, cpu, cuda, cuda:1, mps; cuda:all, to evaluate or audit on all GPUs.")] = "auto"
    seed: Annotated[int, Option("Seed of everything random.", several="--seeds", least=0, most=LARGEST_SEED)] = 0


@dataclass(frozen=True, kw_only=True)
class Seeds(Configuration):
    """Run."""

    seeds: Annotated[
        str | int | Iterable[int] | None,
        Option("Train, and attack, once with each of these seeds, like 0-4 or 0,1,2.", unless=("seed", *STORED)),
    ] = None


@dataclass(frozen=True, kw_only=True)
class AttackSeed(Configuration):
    """Run."""

    attack_seed: Annotated[
        int | None,
        Option("Seed of the attacks and of what checks them.", default="the training's", least=0, most=LARGEST_SEED),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Pace(Configuration):
    """Run."""

    speed: Annotated[
        Speed, Option("Compute plainly (off), in an equal and faster way that a trial finds (auto), or compiled (max).")
    ] = "auto"


@dataclass(frozen=True, kw_only=True)
class Workers(Configuration):
    """Run."""

    workers: Annotated[
        int | None, Option("Trainings and cells side by side.", default="one for each CPU core, one on a GPU", least=1)
    ] = None


@dataclass(frozen=True, kw_only=True)
class Execution(Configuration):
    """Run."""

    executor: Annotated[
        str,
        Option(
            "local (threads of this process), ray (Ray on this machine), or a cluster of Ray: auto, HOST:PORT, "
            "ray://HOST:PORT."
        ),
    ] = "local"
    task_cpus: Annotated[
        int, Option("CPUs, and torch threads, of each piece of work that Ray runs.", least=1, needs=("executor",))
    ] = 1
    task_gpus: Annotated[
        float | None,
        Option(
            "GPUs of each piece of work that Ray runs; 0.25: four share one.", needs=("executor",),
            default="1 where --device is a GPU, else none", least=0,
        ),
    ] = None  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Batches(Configuration):
    """Run."""

    batch_size: Annotated[
        int | None,
        Option(
            "Samples attacked at a time; on the CPU changes no number.", default="by image size and device", least=1
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Watched(Configuration):
    """Output."""

    reporter: Annotated[Reporter | None, Option("Who is told how far the work is.", default="nobody", python=True)] = (
        None
    )


@dataclass(frozen=True, kw_only=True)
class Kept(Configuration):
    """Output."""

    keep_examples: Annotated[bool, Option("Keep the adversarial images in the store, at most 256 MiB a cell.")] = True


@dataclass(frozen=True, kw_only=True)
class Printed(Configuration):
    """Output."""

    verbose: Annotated[bool, Option("Print every table, not the answer alone.", short="-v", command=True)] = False
    quiet: Annotated[
        bool,
        Option("Print where the report is and nothing else.", short="-q", command=True, unless=("verbose",)),
    ] = False


@dataclass(frozen=True, kw_only=True)
class Placed(Configuration):
    """Output."""

    force: Annotated[bool, Option("Write to --out even if it holds something else.")] = False


MARKS_HELP = "Mark the numbers of LaTeX tables that are not trusted, and say below each table what failed."


@dataclass(frozen=True, kw_only=True)
class Formats(Configuration):
    """Output."""

    formats: Annotated[
        Names, Option("html, tex, md, csv, figures; robustbench, card; tex-each: a file a table.", flag="--format")
    ] = FORMATS
    marks: Annotated[bool, Option(MARKS_HELP)] = True


@dataclass(frozen=True, kw_only=True)
class Gates(Configuration):
    """Gates."""

    minimum: Annotated[
        str | Iterable[str] | None,
        Option(
            "What a number has to be, like 'worst_case@8/255>=0.30'; repeatable. Exit code 1 where it is not.",
            flag="--min",
            read=list[str],
        ),
    ] = None
    require: Annotated[
        Verdict | None,
        Option(
            "The least verdict of the numbers in --min, else of every worst case.",
            default="suspect for what --min names: an invalid number never passes",
        ),
    ] = None
    against_baseline: Annotated[
        str | Path | None,
        Option("A file of check --write-baseline; a number that fell since (paired test, Holm, 5 %) does not pass."),
    ] = None


def without_gates(config: AnyGates) -> AnyGates:
    """Return a configuration that asks nothing of the numbers: what is evaluated, and its record, are the same."""
    return replace(config, **dict.fromkeys(GATES))

"""Every option that several commands share, stated once: name, type, default, help, and what it makes sense with.

A class is a group: its docstring is the heading under which ``--help`` shows its options. What each command takes is
put together in :mod:`robustkit.study.config`. Adding an option is adding a field here, and the code that reads
it. Never imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from robustkit.base.configuration import Configuration, Option
from robustkit.base.names import ESCALATION, FORMATS, ChannelOrder, Fusion, Norm, OutputKind, Speed, Trust
from robustkit.base.progress import Reporter

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    DataLike = Any  # (x, y), a DataLoader, a torch dataset or a robustkit Dataset: robustkit.data.in_memory says which
    Model = str | Path | nn.Module | Callable[..., Any]
else:
    DataLike, Model = Any, Any

Names = str | Iterable[str]
Settings = Iterable[str] | Mapping[str, Any]
Paths = str | Path | Iterable[str | Path]

STORED = ("checkpoint", "pool")  # what is evaluated is trained already
CORRUPTIONS, OOD = ("corruptions",), ("ood",)
ATTACKING = ("attacks", "transfer", "detection")

DatasetOption = Option(
    "digits, mnist, cifar10, ..., imagefolder:PATH or npz:PATH, as `list datasets` names them.", read=str
)
OutOption = Option("Folder of results.json, report.html, tables, figures and runs.", group="Output")
SuitesOption = Option(
    "attacks, transfer, corruptions, detection, ood, calibration, diversity, or all.", default="attacks,transfer"
)
Out = Annotated[str | Path, OutOption]


@dataclass(frozen=True, kw_only=True)
class Method(Configuration):
    """Models."""

    defense: Annotated[
        Names | None,
        Option(
            "Defences to train, or to take from the cache, like adp+advt-pgd or adp,baseline.",
            default="adp",
            unless=STORED,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Stored(Configuration):
    """Models."""

    checkpoint: Annotated[
        Paths | None,
        Option(
            "A folder that `robustkit train` wrote, instead of a defence; repeatable.",
            read=list[Path],
            unless=("pool",),
        ),
    ] = None
    pool: Annotated[
        Paths | None,
        Option("A trained folder, or a folder of such, whose members join one pool; repeatable.", read=list[Path]),
    ] = None
    subset_size: Annotated[
        int | None, Option("Members of each subset of the pool.", default="3", least=2, needs=("pool",))
    ] = None
    pool_attribution: Annotated[
        int, Option("On how many images the pool's saliency maps are compared; 0: none.", least=0, needs=("pool",))
    ] = 200
    baseline: Annotated[bool, Option("Evaluate the plain ensemble beside the defence.", unless=STORED)] = True


@dataclass(frozen=True, kw_only=True)
class Network(Configuration):
    """Models."""

    arch: Annotated[
        str | None,
        Option(
            "small-resnet, resnet20, ..., a torchvision name, timm/NAME, or module:factory (runs that code).",
            label="architecture", default="by the dataset",
        ),
    ] = None  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Trained(Configuration):
    """Models."""

    members: Annotated[int | None, Option("Members of a trained ensemble.", default="3", least=1, unless=STORED)] = None
    epochs: Annotated[int | None, Option("Training epochs.", default="by the dataset", least=1, unless=STORED)] = None


@dataclass(frozen=True, kw_only=True)
class Fused(Configuration):
    """Models."""

    fusion: Annotated[
        Fusion | None,
        Option("How the members' outputs become one.", label="fusion rule", default="the stored one, else mean-prob"),
    ] = None


@dataclass(frozen=True)
class AuditedModels(Configuration):
    """Models."""

    models: Annotated[
        Model | Iterable[Model],
        Option("Model files, or folders of them; several make one ensemble.", read=list[Path], positional=True),
    ]


@dataclass(frozen=True, kw_only=True)
class Audited(Configuration):
    """Models."""

    arch: Annotated[
        str | None,
        Option(
            "A name as of train, or module:factory (runs that code).",
            label="architecture",
            default="inferred from the weights",
        ),
    ] = None
    arch_args: Annotated[
        Settings | None, Option("An argument of the architecture, like depth=28; repeatable.", read=list[str])
    ] = None
    trust_pickle: Annotated[bool, Option("Run the code in the files, with all that it may do.")] = False
    surrogate: Annotated[
        str | Path | None,
        Option(
            "An independent model, whose adversarial images are tried on the audited one: train (the plain ensemble, "
            "on the training split, once), or a folder that `robustkit train` wrote.", suites=("transfer",),
        ),
    ] = None  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Preprocessing(Configuration):
    """Preprocessing of the models."""

    normalize: Annotated[
        str | None, Option("imagenet, cifar10, none, ... or means/deviations like 0.5/0.25.", default="detected")
    ] = None
    pixel_range: Annotated[
        int | None, Option("1 or 255: the largest pixel that the model takes.", default="detected")
    ] = None
    channel_order: Annotated[ChannelOrder | None, Option("Order of the channels.", default="detected")] = None
    input_size: Annotated[
        int | None, Option("What images are resized to.", unit="pixels", default="detected", least=1)
    ] = None
    outputs: Annotated[
        OutputKind | None, Option("What the model answers with.", label="kind of outputs", default="detected")
    ] = None


@dataclass(frozen=True, kw_only=True)
class Data(Configuration):
    """Data."""

    dataset: Annotated[str | DataLike, DatasetOption] = "digits"
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
class Threat(Configuration):
    """Threat model."""

    eps: Annotated[
        str | float | Iterable[str | float] | None,
        Option("Budgets in [0, 1], like 2/255,4/255,8/255.", default="the dataset's"),
    ] = None
    norm: Annotated[Norm | None, Option("Norm of the perturbations.", default="the dataset's")] = None
    targeted: Annotated[bool, Option("White-box attacks aim at random labels.", suites=ATTACKING)] = False
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
    reference: Annotated[bool, Option("Run a PGD of 100 steps beside the attacks.")] = True
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
class Frost(Configuration):
    """Suites."""

    frost_dir: Annotated[
        str | Path | None,
        Option("Folder of the photographs frost1.png to frost5.jpg.", default="grown from noise", suites=CORRUPTIONS),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Suites(Configuration):
    """Suites."""

    suites: Annotated[Names | None, SuitesOption] = None
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
class Verdicts(Configuration):
    """Trust."""

    trust: Annotated[
        Trust, Option("Cost of the checks: quick (about 30 % of the attacks' time), full (about as much), or off.")
    ] = "quick"
    escalate: Annotated[
        bool, Option("Where a worst case is suspect, run what its checks advise.", suites=("attacks",))
    ] = False
    escalate_budget: Annotated[
        float,
        Option("What that may cost at each eps.", unit="forward passes for each sample", needs=("escalate",)),
    ] = ESCALATION


@dataclass(frozen=True, kw_only=True)
class Machine(Configuration):
    """Run."""

    device: Annotated[str, Option("auto, cpu, cuda or cuda:0.")] = "auto"
    seed: Annotated[int, Option("Seed of everything random.")] = 0


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
class Batches(Configuration):
    """Run."""

    batch_size: Annotated[
        int | None,
        Option("Samples attacked at a time; changes no number.", default="by image size and device", least=1),
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
class Formats(Configuration):
    """Output."""

    formats: Annotated[Names, Option("html, tex, md, csv, figures.", flag="--format")] = FORMATS

"""Options of models, each stated once: name, type, default, help, and what it makes sense with.

A class is a group: its docstring is the heading under which ``--help`` shows its options. What each command takes is
put together in :mod:`robustkit.study.config`. Adding an option is adding a field here, and the code that reads it.
Never imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from robustkit.base import chances
from robustkit.base.configuration import Configuration
from robustkit.base.names import ChannelOrder, Fusion, OutputKind
from robustkit.base.option import Option
from robustkit.base.types import Names, Paths, Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    Model = str | Path | nn.Module | Callable[..., Any]
else:
    Model = Any  # what a program holds is checked where it is used

STORED = ("checkpoint", "pool")  # what is evaluated is trained already


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
            label="architecture", default="by the dataset", axis=True,
        ),
    ] = None  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Trained(Configuration):
    """Models."""

    members: Annotated[
        int | None, Option("Members of a trained ensemble.", default="3", least=1, unless=STORED, axis=True)
    ] = None
    epochs: Annotated[
        int | None, Option("Training epochs.", default="by the dataset", least=1, unless=STORED, axis=True)
    ] = None


@dataclass(frozen=True, kw_only=True)
class Fused(Configuration):
    """Models."""

    fusion: Annotated[
        Fusion | str | None,
        Option(
            "How the members' outputs become one; random:0.9,0.1 draws a member with these probabilities.",
            label="fusion rule",
            default="mean-prob; of a checkpoint, and of barre, its own",
            beyond=chances.accepted,
            axis=True,
        ),
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
        Settings | None,
        Option("An argument of the architecture, like depth=28; repeatable.", read=list[str], needs=("arch",)),
    ] = None
    weights: Annotated[
        str | None,
        Option(
            "Of a file that holds several versions of its weights: raw, ema (averaged over training), or a name.",
            default="the most accurate on clean images",
        ),
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
        Literal[1, 255] | None, Option("The largest pixel that the model takes.", default="detected")
    ] = None
    channel_order: Annotated[ChannelOrder | None, Option("Order of the channels.", default="detected")] = None
    input_size: Annotated[
        int | None, Option("What images are resized to.", unit="pixels", default="detected", least=1)
    ] = None
    outputs: Annotated[
        OutputKind | None, Option("What the model answers with.", label="kind of outputs", default="detected")
    ] = None
    class_order: Annotated[
        str | Path | None,
        Option(
            "Which output stands for which class: auto applies the order that is found; a file has a line for each "
            "class with the number of its output, or the names of the outputs in their order.", default="the data's",
        ),
    ] = None  # fmt: skip

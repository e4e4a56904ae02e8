"""Options that several commands share: types for Typer. Never imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Dataset = Annotated[
    str, typer.Option(help="digits, mnist, cifar10, ..., imagefolder:PATH or npz:PATH (see `robustkit list datasets`).")
]
DataDir = Annotated[
    Path | None, typer.Option(help="Where torchvision datasets lie (the root that holds MNIST/raw/...).")
]
Download = Annotated[bool, typer.Option("--download", help="Fetch a torchvision dataset that is not there.")]
ImageSize = Annotated[
    str | None,
    typer.Option(help="Resize and crop an image folder's images: 224, or 256:224, as ImageNet is evaluated."),
]
Arch = Annotated[
    str | None,
    typer.Option(help="small-resnet, resnet20, ..., a torchvision name, or module:factory (runs that code)."),
]
Members = Annotated[int | None, typer.Option(help="Members of a trained ensemble.", show_default="3")]
Epochs = Annotated[int | None, typer.Option(help="Training epochs; by default the dataset's recipe.")]
Fusion = Annotated[str | None, typer.Option(help="mean-prob, mean-logit, median, geometric-mean or majority.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="A parameter, like pgd.steps=50, adp.alpha=1, train.lr=1e-3.")
]
FrostDir = Annotated[
    Path | None, typer.Option(help="Folder of the photographs frost1.png to frost5.jpg; default: grown from noise.")
]
CorruptionDir = Annotated[
    Path | None, typer.Option(help="A published set of corrupted images to read, like CIFAR-10-C.")
]
CorruptionReference = Annotated[
    str | None,
    typer.Option(help="Divide errors by this ensemble's, or by alexnet's, for the mCE; default: by the data."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:0.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]

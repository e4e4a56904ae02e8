"""CIFAR-10, through torchvision."""

from __future__ import annotations

from pathlib import Path

from robustkit.data import _torchvision, dataset
from robustkit.data._facts import Source

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataset(
    "cifar10",
    title="CIFAR-10",
    norm="linf",
    eps=(0.01, 0.02, 0.03137254901960784),
    transfer_eps=0.05,
    flip=True,
    arch="resnet20",
    epochs=180,
)
def cifar10(*, data_dir: Path, download: bool = False) -> Source:
    """Small photos of ten kinds of things, 32x32 colour, 50,000 + 10,000.

    Validation is a fixed stratified 5,000 of the training images. Errors are those of :func:`_torchvision.source`.
    """
    return _torchvision.source(
        "CIFAR10",
        data_dir=data_dir,
        download=download,
        holds="cifar-10-batches-py/data_batch_1 and its companions",
        classes=CLASSES,
        shape=(3, 32, 32),
    )

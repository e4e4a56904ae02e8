"""SVHN, through torchvision."""

from __future__ import annotations

from pathlib import Path

from robustkit.data import _torchvision, dataset
from robustkit.data._facts import Source

CLASSES = tuple("0123456789")


@dataset(
    "svhn",
    title="SVHN",
    norm="linf",
    eps=(0.01, 0.02, 0.03137254901960784),
    transfer_eps=0.05,
    flip=False,
    arch="resnet20",
    epochs=180,
)
def svhn(*, data_dir: Path, download: bool = False) -> Source:
    """House numbers in street views, 32x32 colour, 73,257 + 26,032.

    Validation is a fixed stratified 5,000 of the training images. Errors are those of :func:`_torchvision.source`.
    """
    return _torchvision.source(
        "SVHN",
        data_dir=data_dir,
        download=download,
        holds="train_32x32.mat and test_32x32.mat",
        classes=CLASSES,
        shape=(3, 32, 32),
    )

"""MNIST, through torchvision."""

from __future__ import annotations

from pathlib import Path

from robustkit.data import _torchvision, dataset
from robustkit.data._facts import Source

CLASSES = tuple("0123456789")


@dataset(
    "mnist",
    title="MNIST",
    norm="linf",
    eps=(0.05, 0.1, 0.15, 0.2, 0.3),
    transfer_eps=0.15,
    flip=False,
    arch="resnet20",
    epochs=40,
)
def mnist(*, data_dir: Path, download: bool = False) -> Source:
    """Handwritten digits, 28x28 grey, 60,000 + 10,000.

    Validation is a fixed stratified 5,000 of the training images. Errors are those of :func:`_torchvision.source`.
    """
    return _torchvision.source(
        "MNIST",
        data_dir=data_dir,
        download=download,
        holds="MNIST/raw/train-images-idx3-ubyte and its three companions",
        classes=CLASSES,
        shape=(1, 28, 28),
    )

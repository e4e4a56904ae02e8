"""Fashion-MNIST, through torchvision."""

from __future__ import annotations

from pathlib import Path

from robustkit.data import _torchvision, dataset
from robustkit.data._facts import Source

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


@dataset(
    "fashionmnist",
    title="Fashion-MNIST",
    norm="linf",
    eps=(0.02, 0.05, 0.1),
    transfer_eps=0.05,
    flip=True,
    arch="resnet20",
    epochs=40,
)
def fashionmnist(*, data_dir: Path, download: bool = False) -> Source:
    """Photos of clothes, 28x28 grey, 60,000 + 10,000.

    Validation is a fixed stratified 5,000 of the training images. Errors are those of :func:`_torchvision.source`.
    """
    return _torchvision.source(
        "FashionMNIST",
        data_dir=data_dir,
        download=download,
        holds="FashionMNIST/raw/train-images-idx3-ubyte and its three companions",
        classes=CLASSES,
        shape=(1, 28, 28),
    )

"""CIFAR-100, through torchvision."""

from __future__ import annotations

from pathlib import Path

from robustkit.data import _torchvision, dataset
from robustkit.data._facts import Source

CLASSES = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl",
    "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair",
    "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin",
    "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp",
    "lawn_mower", "leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain",
    "mouse", "mushroom", "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck",
    "pine_tree", "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket",
    "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider", "squirrel",
    "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger", "tractor",
    "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman", "worm",
)


@dataset(
    "cifar100",
    title="CIFAR-100",
    norm="linf",
    eps=(0.005, 0.01, 0.03137254901960784),
    transfer_eps=0.05,
    flip=True,
)
def cifar100(*, data_dir: Path, download: bool = False) -> Source:
    """Small photos of a hundred kinds of things, 32x32 colour, 50,000 + 10,000.

    Validation is a fixed stratified 5,000 of the training images. Errors are those of :func:`_torchvision.source`.
    """
    return _torchvision.source(
        "CIFAR100",
        data_dir=data_dir,
        download=download,
        holds="cifar-100-python/train and its companions",
        classes=CLASSES,
        shape=(3, 32, 32),
    )

"""How the papers train: what they say in their text. Never imports torch."""

from __future__ import annotations

from dataclasses import replace

from robustkit.reproduce._parts import Column, Recipe

# Shape (C, H, W) of an image of the data that the papers use.
SHAPES = {"mnist": [1, 28, 28], "cifar10": [3, 32, 32], "cifar100": [3, 32, 32]}

# ADP paper, sections 4.1 and 4.2. Weight decay and flips are those of its public code and of He et al. 2016, whose
# setting it says it follows.
_ADP = Recipe(
    arch="resnet20", members=3, epochs=180, images=50_000,
    train={"lr": 0.001, "batch_size": 64, "weight_decay": 1e-4}, compared={"optimiser": "adam", "flip": True},
)  # fmt: skip

# SDDE paper, section 5.1; weight decay and Nesterov's momentum are OpenOOD's, whose procedure it says it follows.
SDDE = Recipe(
    arch="resnet18-32x32", members=5, epochs=100, images=50_000,
    train={
        "optimiser": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "schedule": "cosine", "batch_size": 128,
    },
    compared={"flip": True}, seeds=5,
)  # fmt: skip

BASELINE = Column("Baseline", "baseline")
ADP_ENTROPY = Column("ADP(2,0)", "adp", {"adp.alpha": 2.0, "adp.beta": 0.0})
ADP = Column("ADP(2,0.5)", "adp", {"adp.alpha": 2.0, "adp.beta": 0.5})


def adp_recipe(dataset: str, *, members: int = 3, batch_size: int = 64) -> Recipe:
    """Return the training of the ADP paper on a dataset."""
    train = {**_ADP.train, "batch_size": batch_size}
    if dataset == "mnist":
        return replace(_ADP, epochs=40, members=members, train=train, compared={"optimiser": "adam", "flip": False})
    return replace(_ADP, members=members, train=train)

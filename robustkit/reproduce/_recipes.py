"""How the papers train, as a reproduction compares it. Never imports torch."""

from __future__ import annotations

from dataclasses import replace

from robustkit.reproduce._parts import Column, Recipe
from robustkit.training import recipes
from robustkit.training.spec import SETTABLE

# Shape (C, H, W) of an image of the data that the papers use.
SHAPES = {"mnist": [1, 28, 28], "cifar10": [3, 32, 32], "cifar100": [3, 32, 32], "imagenet": [3, 224, 224]}

TRAINING_IMAGES = 50_000  # of all three, MNIST's validation images not counted

BASELINE = Column("Baseline", "baseline")
ADP_ENTROPY = Column("ADP(2,0)", "adp", {"adp.alpha": 2.0, "adp.beta": 0.0})
ADP = Column("ADP(2,0.5)", "adp", {"adp.alpha": 2.0, "adp.beta": 0.5})


def sdde_columns(dataset: str) -> tuple[Column, ...]:
    """Return the ensembles of the SDDE paper's tables on a dataset, in its order."""
    return (
        Column("DE", "baseline"),
        Column("NCL", "ncl"),
        Column("ADP", "adp", {"adp.alpha": 0.2, "adp.beta": 0.05}),  # 0.1 x (2, 0.5)
        Column("DICE", "dice"),
        Column("SDDE", "sdde", {"sdde.lam": 0.1 if dataset == "mnist" else 0.005}, fusion="mean-logit"),
    )


def adp_recipe(dataset: str, *, members: int = 3, paper: str = "adp") -> Recipe:
    """Return the training of the ADP paper on a dataset; ``paper="adp-advt"``: its adversarial training."""
    flip = dataset != "mnist"
    return replace(_recipe(paper, dataset, flip), members=members)


def sdde_recipe(dataset: str) -> Recipe:
    """Return the training of the SDDE paper on a dataset."""
    return replace(_recipe("sdde", dataset, flip=True), seeds=5)


def _recipe(paper: str, dataset: str, flip: bool) -> Recipe:
    fields = recipes.of(paper, dataset)
    train = {name: value for name, value in fields.items() if name in SETTABLE}
    return Recipe(fields["arch"], fields["members"], fields["epochs"], TRAINING_IMAGES, train, {"flip": flip})

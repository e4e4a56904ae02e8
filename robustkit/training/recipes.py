"""How the papers train, by paper and dataset (``*``: any other); fields of a training. Never imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Fields = Mapping[str, Any]

# Pang et al. 2019, section 4.2: Adam 1e-3, batch 64, 40 epochs on MNIST and 180 on CIFAR. Weight decay and drops are
# those of He et al. 2016, whose setting it says it follows, and of its public code.
_ADP = {
    "members": 3, "epochs": 180, "batch_size": 64, "lr": 1e-3, "weight_decay": 1e-4, "optimiser": "adam",
    "schedule": "steps", "drops": "2/3,8/9", "fusion": "mean-prob", "arch": "resnet20",
}  # fmt: skip

# Dereka et al. 2024, section 5.1; weight decay and Nesterov's momentum are OpenOOD's, whose procedure it follows.
_SDDE = {
    "members": 5, "epochs": 100, "batch_size": 128, "lr": 0.1, "weight_decay": 5e-4, "optimiser": "sgd",
    "momentum": 0.9, "schedule": "cosine", "fusion": "mean-prob", "arch": "resnet18-32x32",
}  # fmt: skip

_DIVERSE = {
    "members": 3, "epochs": 200, "batch_size": 128, "lr": 1e-3, "weight_decay": 1e-4, "optimiser": "adam",
    "schedule": "steps", "drops": "1/2,3/4", "fusion": "mean-prob", "arch": "resnet20",
}  # fmt: skip

RECIPES: Mapping[str, Mapping[str, Fields]] = {
    "adp": {"mnist": {**_ADP, "epochs": 40}, "*": _ADP},
    # Section 4.3: adversarial training has batches of 128, half of them adversarial.
    "adp-advt": {"mnist": {**_ADP, "epochs": 40, "batch_size": 128}, "*": {**_ADP, "batch_size": 128}},
    "sdde": {"mnist": {**_SDDE, "epochs": 50, "arch": "lenet"}, "*": _SDDE},
    # Rosales et al. 2023, section 5, on ImageNet; its ResNet-50 is left out, as it fits no small images.
    "design-diversity": {
        "*": {
            "members": 3, "epochs": 100, "batch_size": 64, "lr": 1e-3, "weight_decay": 0.0, "optimiser": "adabelief",
            "schedule": "steps", "drops": "3/10,6/10,9/10", "fusion": "mean-logit",
        },
    },
    # As Yang et al. 2020 (arXiv:2009.14720) train the ensembles that they compare on CIFAR-10, in their public code.
    "gal": {"*": _DIVERSE},
    "dverge": {"*": {**_DIVERSE, "lr": 0.1, "optimiser": "sgd", "momentum": 0.9}},
    # Yang et al. 2021 say less; this is the recipe of the public code's comparison with the two above.
    "trs": {"*": _DIVERSE},
    # Dbouk and Shanbhag 2023, section 6 and the command of the public code; 100 epochs for each of five members.
    "barre": {
        "*": {
            "members": 5, "epochs": 500, "batch_size": 256, "lr": 0.1, "weight_decay": 5e-4, "optimiser": "sgd",
            "momentum": 0.9, "schedule": "steps", "drops": "1/2,3/4", "fusion": "random", "arch": "resnet20",
        },
    },
    # Lakshminarayanan et al. 2017, section 3.1.
    "deep-ensembles": {
        "*": {"members": 5, "epochs": 40, "batch_size": 100, "optimiser": "adam", "schedule": "constant"},
    },
}  # fmt: skip


def of(paper: str, dataset: str) -> dict[str, Any]:
    """Return the fields of a paper's training on a dataset."""
    by_dataset = RECIPES[paper]
    return dict(by_dataset.get(dataset, by_dataset["*"]))

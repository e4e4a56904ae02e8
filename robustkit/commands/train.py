"""``robustkit train``. Never imports torch by itself."""

from __future__ import annotations

import os

from rich.console import Console

from robustkit.base.progress import Reporter
from robustkit.study.config import TrainConfig


def train(config: TrainConfig) -> None:
    """Train an ensemble and write a checkpoint that `evaluate --checkpoint` and `load_ensemble` read.

    Examples: robustkit train --defense adp+advt-pgd, or, on two GPUs,
    torchrun --nproc-per-node 2 -m robustkit train --defense adp --dataset cifar10 --data-dir D
    """
    from robustkit.pipeline import request

    request.check_training(config)
    console = Console()
    with console.status("loading torch ..."):
        from robustkit import api
    metrics = api.train(**config.keywords(), reporter=Reporter(console))
    if int(os.environ.get("RANK", "0")):  # of several processes, one speaks
        return
    if "seeds" in metrics:
        own = ", ".join(f"{one['test_accuracy']:.4f}" for one in metrics["seeds"].values())
        spread = metrics["test_accuracy_std"]
        shown = "" if spread is None else f" ± {spread:.4f}"
        console.print(f"test accuracy {metrics['test_accuracy']:.4f}{shown} over seeds ({own})", highlight=False)
        print(f"checkpoints: {config.out}")
        return
    console.print(
        f"test accuracy {metrics['test_accuracy']:.4f}, members "
        f"{', '.join(f'{a:.4f}' for a in metrics['test_member_accuracy'])}; best epoch {metrics['best_epoch']:.0f}",
        highlight=False,
    )
    print(f"checkpoint: {config.out}")

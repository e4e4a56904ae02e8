"""One training loop for every defence: all members on the same batches, one scalar loss, best epoch on validation."""

from __future__ import annotations

import copy
import functools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from robustkit import defenses, models
from robustkit.augment import augment
from robustkit.data import Dataset, Split
from robustkit.defenses import Outputs
from robustkit.ensemble import Ensemble, Member
from robustkit.errors import RunError
from robustkit.parallel import GLOBAL_RNG
from robustkit.progress import Reporter
from robustkit.records import Spec, digest
from robustkit.stats import standard_error


@dataclass(frozen=True)
class TrainSpec:
    """Everything that decides what a training gives; its digest names the cached ensemble.

    The defaults are the ADP paper's (section 4.2): Adam 1e-3, batch 64, weight decay 1e-4, learning rate x0.1 at 2/3
    and x0.01 at 8/9 of the epochs, shifts of 10 %. ``flip`` is for data where a mirrored image keeps its class.
    """

    defense: Spec
    dataset: str
    data_sha256: str
    arch: str
    members: int = 3
    epochs: int = 40
    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 1e-4
    shift: float = 0.1
    flip: bool = False
    fusion: str = "mean-prob"
    seed: int = 0
    arch_params: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the spec as plain JSON."""
        return {**asdict(self), "defense": self.defense.to_json(), "arch_params": dict(self.arch_params)}

    @property
    def key(self) -> str:
        """The content key: SHA-256 of the canonical JSON."""
        return digest(self.to_json())


@dataclass(frozen=True)
class Trained:
    """A trained ensemble in eval mode, its metrics, and one row of facts per epoch."""

    ensemble: Ensemble
    metrics: dict[str, Any]
    history: list[dict[str, float]]


def fit(
    spec: TrainSpec, data: Dataset, *, device: torch.device | None = None, reporter: Reporter | None = None
) -> Trained:
    """Train an ensemble and return its best epoch by fused validation accuracy.

    Best is the latest epoch within one standard error of the highest accuracy seen: a difference that the validation
    data cannot tell from chance must not undo epochs of a regulariser's work (Breiman et al. 1984, the 1 SE rule).

    Raises
    ------
    RunError
        If the loss is not finite; the message says when and what to change.
    """
    device = device or torch.device("cpu")
    reporter = reporter or Reporter()
    train, validation = data.split("train"), data.split("validation")
    ensemble = initialise(spec, data).to(device).to(memory_format=torch.channels_last)
    parameters = list(ensemble.parameters())
    optimiser = torch.optim.Adam(parameters, lr=spec.lr, weight_decay=spec.weight_decay, fused=True)
    drops = (round(spec.epochs * 2 / 3), round(spec.epochs * 8 / 9))
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [d for d in drops if d > 0], gamma=0.1)
    generator = torch.Generator().manual_seed(spec.seed)
    x, y = train.tensor().to(device), train.y.to(device)
    history: list[dict[str, float]] = []
    best_accuracy, best_state, kept, started = 0.0, ensemble.state_dict(), {}, time.perf_counter()
    batches = math.ceil(len(y) / spec.batch_size)
    with reporter.task(f"training {spec.defense.name}", spec.epochs * batches) as advance:
        for epoch in range(spec.epochs):
            note = f"epoch {epoch + 1} of {spec.epochs}" + (
                f", validation {history[-1]['validation_accuracy']:.3f}" if history else ""
            )
            step = functools.partial(advance, 1, note)
            totals = _epoch(spec, ensemble, optimiser, x, y, generator, step)
            if not totals or not all(abs(v) < float("inf") for v in totals.values()):
                raise RunError(
                    f"training {spec.defense.name} broke in epoch {epoch + 1}: the loss is not finite ({totals}); "
                    f"try --set train.lr={spec.lr / 10:g} or a weaker regulariser."
                )
            schedule.step()
            accuracy = accuracies(ensemble, validation)[0]
            history.append({"epoch": epoch + 1.0, **totals, "validation_accuracy": accuracy})
            best_accuracy = max(best_accuracy, accuracy)
            if accuracy >= best_accuracy - standard_error(best_accuracy, len(validation)):
                kept, best_state = history[-1], copy.deepcopy(ensemble.state_dict())
    ensemble.load_state_dict(best_state)
    ensemble.eval()
    ensemble.to(memory_format=torch.contiguous_format)
    metrics = {
        "validation_accuracy": kept["validation_accuracy"],
        "best_epoch": kept["epoch"],
        "seconds": time.perf_counter() - started,
    }
    return Trained(ensemble, metrics, history)


def _epoch(
    spec: TrainSpec, ensemble: Ensemble, optimiser: torch.optim.Optimizer, x: Tensor, y: Tensor,
    generator: torch.Generator, step: Callable[[], None],
) -> dict[str, float]:  # fmt: skip
    """Train on every sample once; return the mean of the loss and of each of its parts."""
    loss = defenses.get(spec.defense.name)
    ensemble.train()
    totals: dict[str, float] = {}
    for rows in torch.split(torch.randperm(len(y), generator=generator), spec.batch_size):
        step()
        if len(rows) < 2:
            continue  # batch norm cannot learn from one sample
        rows = rows.to(x.device)
        images = augment(x[rows], shift=spec.shift, flip=spec.flip, generator=generator)
        images = images.contiguous(memory_format=torch.channels_last)
        result = loss(Outputs(ensemble.member_logits(images), y[rows]), **spec.defense.params)
        optimiser.zero_grad(set_to_none=True)
        result.total.backward()
        optimiser.step()
        for name, value in {"loss": result.total.detach(), **result.parts}.items():
            totals[name] = totals.get(name, 0.0) + float(value) * len(rows) / len(y)
    return totals


def initialise(spec: TrainSpec, data: Dataset) -> Ensemble:
    """Build the untrained ensemble; each member's weights depend on the seed and its index alone."""
    channels = data.shape[0]
    members = []
    for index in range(spec.members):
        # Initialisers read torch's global generator: fork it, so that a caller's stream stays as it was.
        with GLOBAL_RNG, torch.random.fork_rng(devices=[]):
            torch.manual_seed(spec.seed * 1_000_003 + index)
            network = models.build(spec.arch, channels, len(data.classes), spec.arch_params)
        members.append(Member(network, [0.0] * channels, [1.0] * channels))
    return Ensemble(members, spec.fusion)


@torch.no_grad()
def accuracies(ensemble: Ensemble, split: Split, batch_size: int = 512) -> tuple[float, list[float]]:
    """Return the accuracy of the fused output and of each member on a split; leaves the mode as it was."""
    device = next(ensemble.parameters()).device
    was_training = ensemble.training
    ensemble.eval()
    fused, own = 0, torch.zeros(len(ensemble))
    for rows in torch.split(torch.arange(len(split)), batch_size):
        _, x, y = split.batch(rows)
        x, y = x.to(device, memory_format=torch.channels_last), y.to(device)
        logits: Tensor = ensemble.member_logits(x)
        fused += int((ensemble.fuse(logits).argmax(1) == y).sum())
        own += (logits.argmax(2) == y).sum(1).cpu()
    ensemble.train(was_training)
    return fused / len(split), (own / len(split)).tolist()

"""One epoch of training, a step at a time: samples, made inputs, member outputs, the defence's loss, moved weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from robustkit.data import Split
from robustkit.defenses import Batch, Method, Outputs
from robustkit.ensembles.ensemble import Ensemble
from robustkit.functional.precision import wide
from robustkit.training.augment import augment
from robustkit.training.forward import Forward
from robustkit.training.ranks import Ranks
from robustkit.training.spec import TrainSpec

LOOK = 50  # steps between two looks at the loss of a GPU, which has to stop for it


@dataclass(frozen=True)
class Samples:
    """The images of a split as stored, uint8 or float32 (N, C, H, W), and their labels, on the training's device."""

    pixels: Tensor
    y: Tensor

    @classmethod
    def of(cls, split: Split, device: torch.device) -> Samples:
        """Move a split to a device, without widening it to floats."""
        return cls(split.x.to(device), split.y.to(device))

    def images(self, rows: Tensor) -> Tensor:
        """Return some images as float32 in [0, 1], (B, C, H, W)."""
        x = self.pixels[rows]
        return x.float().div_(255) if x.dtype == torch.uint8 else x


@dataclass
class Means:
    """Means over samples of named values, kept on the device until somebody reads them."""

    totals: dict[str, Tensor] = field(default_factory=dict)
    weight: float = 0.0

    def add(self, values: dict[str, Tensor], weight: int) -> None:
        """Count each value ``weight`` times."""
        self.weight += weight
        for name, value in values.items():
            value = wide(value.detach()) * weight
            self.totals[name] = self.totals[name] + value if name in self.totals else value

    def read(self, ranks: Ranks) -> dict[str, float]:
        """Return the means over all processes."""
        if not self.totals:
            return {}
        everything = torch.stack(
            [*self.totals.values(), torch.full_like(next(iter(self.totals.values())), self.weight)]
        )
        *sums, weight = ranks.total(everything).tolist()
        return {name: value / weight for name, value in zip(self.totals, sums, strict=True)}


@dataclass
class EpochRunner:
    """Everything that a step needs; :meth:`epoch` trains on every sample once."""

    spec: TrainSpec
    method: Method
    ensemble: Ensemble
    forward: Forward
    optimiser: torch.optim.Optimizer
    samples: Samples
    outliers: Samples | None
    companion: nn.Module | None
    ranks: Ranks
    after: Callable[[], None]

    def __post_init__(self) -> None:
        facts = self.method.facts
        self.fresh = max(1, round(self.spec.batch_size * float(facts.get("fresh", 1.0))))
        # A loss with own batches asks for them; inputs that differ by member are made from one batch.
        self.orders = len(self.ensemble) + 1 if facts.get("own_batches") and self.method.inputs is None else 1
        self.parameters = [p for group in self.optimiser.param_groups for p in group["params"]]

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return math.ceil(len(self.samples.y) / self.fresh)

    def epoch(self, number: int, advance: Callable[[dict[str, float]], None]) -> dict[str, float]:
        """Train on every sample once; return the mean of the loss, of each of its parts and of the members' accuracy.

        Random numbers depend on the seed, the epoch and the process alone, so that an epoch can be repeated.
        """
        order = generator_of(self.spec.seed, number, 0)
        own = generator_of(self.spec.seed, number, 1 + self.ranks.rank)
        self.ensemble.train()
        permutations = [torch.randperm(len(self.samples.y), generator=order) for _ in range(self.orders)]
        means, recent = Means(), {}
        for index, chunks in enumerate(zip(*(torch.split(p, self.fresh) for p in permutations), strict=True)):
            share = [rows[self.ranks.rank :: self.ranks.world].to(self.samples.y.device) for rows in chunks]
            if len(chunks[0]) >= 2 * self.ranks.world:  # batch norm cannot learn from one sample
                values, count = self._step(share, own, len(share[0]) / len(chunks[0]))
                means.add(values, count)
                if self.samples.y.device.type == "cpu" or index % LOOK == 0:
                    recent = {name: float(value) for name, value in values.items()}
                    _check(recent)
            advance(recent)
        found = means.read(self.ranks)
        _check(found)
        self.ranks.average_statistics(self.ensemble)
        return found

    def _step(self, share: list[Tensor], generator: torch.Generator, weight: float) -> tuple[dict[str, Tensor], int]:
        outputs = self._outputs(*self._batches(share, generator), generator)
        loss = self.method.loss(outputs)
        self.optimiser.zero_grad(set_to_none=True)
        loss.total.backward()  # type: ignore[no-untyped-call]
        self.ranks.average_gradients(self.parameters, weight)
        self.optimiser.step()
        self.after()
        right = (outputs.logits.argmax(-1) == outputs.y).float().mean()
        return {"loss": loss.total.detach(), **loss.parts, "accuracy": right}, len(share[0])

    def _batches(self, share: list[Tensor], generator: torch.Generator) -> tuple[Tensor, Tensor, Batch]:
        """Return what the members are trained on, x (B, C, H, W) or (M, B, C, H, W) with y, and the shared batch."""
        made = [self._images(rows, generator) for rows in share]
        shared = Batch(made[-1], self.samples.y[share[-1]])
        if self.orders > 1:
            return torch.stack(made[:-1]), torch.stack([self.samples.y[rows] for rows in share[:-1]]), shared
        if self.method.inputs is None:
            return shared.x, shared.y, shared
        self.ensemble.eval()  # crafting must not move the statistics of batch norm
        with self.forward.precision(shared.x.device):
            x, y = self.method.inputs(self.ensemble, shared.x, shared.y, generator=generator)
        self.ensemble.train()
        return x, y, Batch(x, y) if x.dim() == 4 else shared

    def _images(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        return augment(self.samples.images(rows), shift=self.spec.shift, flip=self.spec.flip, generator=generator)

    def _outputs(self, x: Tensor, y: Tensor, shared: Batch, generator: torch.Generator) -> Outputs:
        count, outliers = y.shape[-1], None
        if self.outliers is not None:
            rows = torch.randint(len(self.outliers.y), (count,), generator=generator).to(x.device)
            others = augment(
                self.outliers.images(rows), shift=self.spec.shift, flip=self.spec.flip, generator=generator
            )
            x = torch.cat([x, others.expand(*x.shape[:-4], *others.shape)], -4)
        logits, features = self.forward(x)
        if self.outliers is not None:
            logits, outliers = logits[:, :count], logits[:, count:]
            features = tuple(f[:count] for f in features)
        return Outputs(
            logits,
            y,
            list(self.ensemble.members),
            shared,
            features,
            outliers,
            self.companion,
            self.spec.label_smoothing,
        )


def generator_of(seed: int, epoch: int, stream: int) -> torch.Generator:
    """Return a generator for one epoch; the three numbers are mixed so that neighbours have nothing in common."""
    mixed = seed
    for number in (epoch, stream):
        mixed = (mixed * 6364136223846793005 + number + 1442695040888963407) % 2**63
    return torch.Generator().manual_seed(mixed)


def _check(values: dict[str, float]) -> None:
    broken = {name: value for name, value in values.items() if not math.isfinite(value)}
    if broken:
        raise FloatingPointError(", ".join(f"{name} {value}" for name, value in broken.items()))

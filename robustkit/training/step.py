"""One epoch of training, a step at a time: samples, made inputs, member outputs, the defence's loss, moved weights."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from robustkit.defenses import Batch, Method, Outputs
from robustkit.ensembles.ensemble import Ensemble
from robustkit.functional.precision import wide
from robustkit.training.augment import augment
from robustkit.training.forward import Forward
from robustkit.training.ranks import Ranks
from robustkit.training.samples import Samples
from robustkit.training.spec import TrainSpec
from robustkit.training.stages import Stages

LOOK = 50  # steps between two looks at the loss of a GPU, which has to stop for it


@dataclass
class Means:
    """Means over samples of named values, kept on the device until somebody reads them."""

    totals: dict[tuple[str, ...], Tensor] = field(default_factory=dict)  # of the values that come together, (K,)
    weight: float = 0.0

    def add(self, values: dict[str, Tensor], weight: int) -> None:
        """Count each value ``weight`` times."""
        if not values:
            return
        self.weight += weight
        names, found = tuple(values), _together(values) * weight
        self.totals[names] = self.totals[names] + found if names in self.totals else found

    def read(self, ranks: Ranks) -> dict[str, float]:
        """Return the means over all processes."""
        if not self.totals:
            return {}
        sums = torch.cat(list(self.totals.values()))
        *found, weight = ranks.total(torch.cat([sums, torch.full_like(sums[:1], self.weight)])).tolist()
        means: dict[str, float] = {}
        for name, value in zip(itertools.chain(*self.totals), found, strict=True):
            means[name] = means.get(name, 0.0) + value / weight
        return means


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
    stages: Stages | None = None

    def __post_init__(self) -> None:
        facts = self.method.facts
        self.fresh = max(1, round(self.spec.batch_size * float(facts.get("fresh", 1.0))))
        # A loss with own batches asks for them; inputs that differ by member are made from one batch.
        self.orders = len(self.ensemble) + 1 if facts.get("own_batches") and self.method.inputs is None else 1
        self.parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        self.present, self.running = self.ensemble, self.forward  # what inputs are made against, and what is trained
        self.trained, self.whole = 0.0, True  # see Outputs and Loss

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return math.ceil(len(self.samples) / self.fresh)

    def epoch(self, number: int, advance: Callable[[dict[str, float]], None]) -> dict[str, float]:
        """Train on every sample once; return the mean of the loss, of each of its parts and of the members' accuracy.

        Random numbers depend on the seed, the epoch and the process alone, so that an epoch can be repeated.
        """
        order = generator_of(self.spec.seed, number, 0)
        own = generator_of(self.spec.seed, number, 1 + self.ranks.rank)
        self._turn(number)
        self.trained = (number - 1) / (self.spec.epochs - 1) if self.spec.epochs > 1 else 1.0
        self.ensemble.train()
        permutations = [torch.randperm(len(self.samples), generator=order) for _ in range(self.orders)]
        means, recent = Means(), {}
        for index, chunks in enumerate(zip(*(torch.split(p, self.fresh) for p in permutations), strict=True)):
            share = [rows[self.ranks.rank :: self.ranks.world] for rows in chunks]
            if len(chunks[0]) >= 2 * self.ranks.world:  # batch norm cannot learn from one sample
                values, count = self._step(share, own, len(share[0]) / len(chunks[0]))
                means.add(values, count)
                if self.samples.y.device.type == "cpu" or index % LOOK == 0:
                    recent = read(values, self.ranks)
                    _check(recent)
            advance(recent)
        found = means.read(self.ranks)
        _check(found)
        self.ranks.average_statistics(self.ensemble)
        return found

    def _turn(self, number: int) -> None:
        """Turn to what an epoch trains: all members, or one of them."""
        self.present, self.running = self.ensemble, self.forward
        if self.stages is not None:
            self.stages.begin(self.ensemble, number)
            at = self.stages.member(number)
            self.present, self.running = self.stages.so_far(self.ensemble, number), self.forward.alone(at)
            self.parameters = list(self.ensemble.members[at].parameters())  # the others have no gradient

    def _step(self, share: list[Tensor], generator: torch.Generator, weight: float) -> tuple[dict[str, Tensor], int]:
        outputs = self._outputs(*self._batches(share, generator), generator)
        loss = self.method.loss(outputs)
        self.whole = loss.whole
        self.optimiser.zero_grad(set_to_none=True)
        loss.total.backward()  # type: ignore[no-untyped-call]
        self.ranks.average_gradients(self.parameters, weight)
        self.optimiser.step()
        self.after()
        right = (outputs.logits.argmax(-1) == outputs.y).float().mean()
        return {"loss": loss.total.detach(), **loss.parts, "accuracy": right}, len(share[0])

    def _batches(self, share: list[Tensor], generator: torch.Generator) -> tuple[Tensor, Tensor, Batch]:
        """Return what the members are trained on, x (B, C, H, W) or (M, B, C, H, W) with y, and the shared batch."""
        drawn = [self.samples.batch(rows) for rows in share]
        made = [self._augmented(x, generator) for x, _ in drawn]
        shared = Batch(made[-1], drawn[-1][1])
        if self.orders > 1:
            return torch.stack(made[:-1]), torch.stack([y for _, y in drawn[:-1]]), shared
        if self.method.inputs is None:
            return shared.x, shared.y, shared
        self.ensemble.eval()  # crafting must not move the statistics of batch norm
        with self.forward.precision(shared.x.device):
            x, y = self.method.inputs(self.present, shared.x, shared.y, generator=generator)
        self.ensemble.train()
        return x, y, Batch(x, y) if x.dim() == 4 else shared

    def _augmented(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return augment(x, shift=self.spec.shift, flip=self.spec.flip, generator=generator)

    def _outputs(self, x: Tensor, y: Tensor, shared: Batch, generator: torch.Generator) -> Outputs:
        count, outliers = y.shape[-1], None
        if self.outliers is not None:
            rows = torch.randint(len(self.outliers), (count,), generator=generator)
            others = self._augmented(self.outliers.images(rows), generator)
            x = torch.cat([x, others.expand(*x.shape[:-4], *others.shape)], -4)
        logits, features = self.running(x)
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
            self.trained,
        )


def generator_of(seed: int, epoch: int, stream: int) -> torch.Generator:
    """Return a generator for one epoch; the three numbers are mixed so that neighbours have nothing in common."""
    mixed = seed
    for number in (epoch, stream):
        mixed = (mixed * 6364136223846793005 + number + 1442695040888963407) % 2**63
    return torch.Generator().manual_seed(mixed)


def read(values: Mapping[str, Tensor], ranks: Ranks) -> dict[str, float]:
    """Return the means of some values over all processes, read at once: a GPU has to stop for it.

    Where one process has a value that is not finite, all see it, so that none stops alone and leaves the rest waiting.
    """
    if not values:
        return {}
    found = ranks.total(_together(values)).tolist()
    return {name: value / ranks.world for name, value in zip(values, found, strict=True)}


def _together(values: Mapping[str, Tensor]) -> Tensor:
    """Return scalars as one tensor, in the widest precision of their device."""
    return wide(torch.stack([value.detach() for value in values.values()]))


def _check(values: dict[str, float]) -> None:
    broken = {name: value for name, value in values.items() if not math.isfinite(value)}
    if broken:
        raise FloatingPointError(", ".join(f"{name} {value}" for name, value in broken.items()))

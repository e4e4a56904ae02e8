"""Crafting the images of one block: attack its samples, roughly first where that is faster, and check the images."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from robustkit import attacks
from robustkit.base.errors import UserError
from robustkit.base.parallel import run_all
from robustkit.base.progress import Advance
from robustkit.data import Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.ensembles.fastpath import Crafting
from robustkit.evaluation.scoring import SIZES, score, verify
from robustkit.functional.batching import Batched, out_of_memory
from robustkit.functional.eot import Averaged
from robustkit.functional.losses import succeeded
from robustkit.functional.precision import exactly
from robustkit.functional.sampling import SampleGenerator
from robustkit.functional.sending import sent
from robustkit.functional.trace import Trace
from robustkit.records.cells import Cell, Spec
from robustkit.records.samples import ERROR, NOT_ATTACKED, Samples

Craft = Callable[..., Tensor]
POOL_BYTES = 2**24  # of the images that one attack works on together on a CPU ...
POOL_BYTES_GPU = 2**28  # ... and on a GPU, so that its batches stay full
LOOK = 0.5  # seconds between two looks at a bar
LONG = 20  # steps from which on a rough model may go first


@dataclass
class Block:
    """Consecutive samples of a split, one row each, and what is found of them."""

    ids: Tensor
    x: Tensor
    y: Tensor
    aims: Tensor  # what the attack is given as label
    target: Tensor
    perturbed: Tensor
    member_logits: Tensor
    fused: Tensor
    sizes: Tensor
    status: Tensor
    forwards: Tensor
    backwards: Tensor
    seconds: Tensor
    keep: int  # of how many rows, from the first, the loss history is kept
    randomised: bool = False  # whether ``fused`` is the distribution of answers that are drawn
    history: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @classmethod
    def of(cls, split: Split, rows: Tensor, ensemble: Ensemble, keep: int) -> Block:
        """Return the unperturbed block; nothing is scored yet."""
        ids, x, y = split.batch(rows)
        n = len(rows)
        zeros = torch.zeros(n, dtype=torch.int64)
        return cls(
            ids=ids, x=x, y=y, aims=y, target=torch.full((n,), -1), perturbed=x.clone(),
            member_logits=torch.zeros(len(ensemble), n, 0), fused=torch.zeros(n, 0), sizes=torch.zeros(len(SIZES), n),
            status=torch.full((n,), NOT_ATTACKED), forwards=zeros, backwards=zeros.clone(), seconds=torch.zeros(n),
            keep=min(keep, n), randomised=bool(ensemble.chances),
        )  # fmt: skip

    def score_as(self, clean: Samples) -> None:
        """Take over the scores of the unperturbed images."""
        self.member_logits = torch.from_numpy(clean.member_logits.copy())
        self.fused = torch.from_numpy(clean.fused.copy())
        self.status[torch.from_numpy(clean.failed)] = ERROR

    def won(self, rows: Tensor, targeted: bool) -> Tensor:
        """Return which of the rows the attack has won, bool."""
        aims = self.target[rows] if targeted else self.y[rows]
        if self.randomised:
            return succeeded(self.fused[rows], aims.clamp_min(0), targeted, drawn=True) & (self.status[rows] != ERROR)
        hit = (self.fused[rows].argmax(1) == aims) ^ (not targeted)
        return hit & (self.status[rows] != ERROR)

    def joined_history(self) -> Tensor:
        """Return the loss histories of the kept rows (keep, T), NaN where a sample has none."""
        steps = max((h.shape[1] for _, h in self.history), default=0)
        joined = torch.full((self.keep, steps), float("nan"))
        for rows, history in self.history:
            joined[rows] = torch.nn.functional.pad(history, (0, steps - history.shape[1]), value=float("nan"))
        return joined


@dataclass(frozen=True)
class _Failure:
    """What an attack raised, and whether fewer samples at a time may go through."""

    text: str
    narrow: bool


@dataclass
class AttackRunner:
    """What crafting needs besides the block, for all blocks of a cell."""

    cell: Cell
    ensemble: Ensemble  # scores
    crafting: Crafting  # is attacked
    device: torch.device
    batch_size: int
    workers: int
    advance: Advance
    warnings: list[str] = field(default_factory=list)
    passes: int = 0  # of the model so far: what a person sees while the first samples are not done yet
    _shown: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def craft(self, spec: Spec, block: Block, rows: Tensor) -> None:
        """Attack and score the given rows of a block, ascending."""
        craft, first = configured(self.cell, spec), rough_params(self.cell)
        if self.crafting.rough is not None and first:
            quiet = replace(self, advance=lambda steps=1, note="": self.advance(0, note), warnings=[])
            quiet.attack(functools.partial(craft, **first), self.crafting.rough, block, rows)
            self.score(block, rows)
            standing = rows[~block.won(rows, self.cell.targeted)]
            self.advance(len(rows) - len(standing))
            rows = standing
        self.attack(craft, self.crafting.exact, block, rows)
        self.score(block, rows)

    def score(self, block: Block, rows: Tensor) -> None:
        """Score the images at ``rows`` with the untouched model."""
        if len(rows) == 0:
            return
        scores = score(self.ensemble, block.x[rows], block.perturbed[rows], self.device)
        if block.fused.shape[1] == 0:
            classes = scores.fused.shape[1]
            block.fused = torch.zeros(len(block.x), classes)
            block.member_logits = torch.zeros(len(block.member_logits), len(block.x), classes)
        block.member_logits[:, rows], block.fused[rows], block.sizes[:, rows] = (
            scores.member_logits, scores.fused, scores.sizes
        )  # fmt: skip
        if not bool(scores.finite.all()):
            self.warnings.append("the model's output is not finite on some images")
            block.status[rows[~scores.finite]] = ERROR

    def attack(self, craft: Craft, ensemble: Ensemble, block: Block, rows: Tensor) -> None:
        """Attack the given rows, several pools of them side by side."""
        share = -(-len(rows) // self.workers)
        most = self.batch_size
        if self.cell.backend == "native":  # our attacks compute a pool in batches; another library's cannot
            room = POOL_BYTES if self.device.type == "cpu" else POOL_BYTES_GPU
            most = max(most, room // block.x[0].nbytes)
        pools = torch.split(rows, max(1, min(most, share)))

        def one(pool: Tensor) -> None:
            self._attack(craft, ensemble, block, pool)
            self.advance(len(pool))

        run_all(one, [pool for pool in pools if len(pool)], self.workers)

    def _watch(self) -> None:
        self.passes += self.cell.eot
        now = time.monotonic()
        if now > self._shown + LOOK:
            self._shown = now
            self.advance(0, f"{self.passes} passes of the model")

    def _attack(self, craft: Craft, ensemble: Ensemble, block: Block, batch: Tensor) -> None:
        """Attack some samples of a block and check what comes back."""
        cell, kept = self.cell, int((batch < block.keep).sum())  # rows ascend, so the kept ones come first
        model = ensemble.view(cell.source)
        if cell.eot > 1:
            model = Averaged(model, cell.eot)
        if cell.backend == "native":
            model = Batched(model, self.batch_size)
        trace = Trace(len(batch), keep=kept, watch=self._watch)
        started = time.perf_counter()
        made, failure = self._made(craft, model, block, batch, trace)
        if failure:
            size = (len(batch) + 1) // 2 if failure.narrow else self.batch_size  # which samples is it?
            if size < len(batch):
                for part in torch.split(batch, size):
                    self._attack(craft, ensemble, block, part)
                return
            block.status[batch] = ERROR
            self.warnings.append(f"{cell.name} failed: {failure.text}")
            return
        if isinstance(model, Batched):  # what did not fit now will not fit later
            self.batch_size = min(self.batch_size, model.size)
        images, status, warnings = verify(made, block.x[batch], cell)
        with self._lock:
            block.perturbed[batch], block.status[batch] = images, status
            block.seconds[batch] += (time.perf_counter() - started) / len(batch)
            block.forwards[batch] += trace.forwards * cell.eot
            block.backwards[batch] += trace.backwards * cell.eot
            self.warnings += warnings
            if kept:
                block.history.append((batch[:kept], trace.history))

    def _made(
        self, craft: Craft, model: torch.nn.Module, block: Block, batch: Tensor, trace: Trace
    ) -> tuple[object, _Failure | None]:
        """Return what the attack returns, or why it failed, and keep nothing of its tensors where it did."""
        cell = self.cell
        generator = SampleGenerator(cell.seed, block.ids[batch], f"{cell.name}/{cell.source}")
        try:
            x, aims = sent(block.x[batch], self.device), sent(block.aims[batch], self.device)
            with exactly(self.device):
                return craft(model, x, aims, generator=generator, trace=trace), None
        except Exception as error:  # noqa: BLE001 - whatever an attack raises is recorded, never as robust
            narrow = isinstance(error, FloatingPointError) or out_of_memory(error)
            text = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        # Only here, where the traceback is gone, is what the failed attempt had in memory free again.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # cuDNN and cuBLAS cannot use what torch's allocator keeps
        return None, _Failure(text, narrow)


def rough_params(cell: Cell) -> dict[str, int]:
    """Return what the attack of a rough model, going first, is given instead of the cell's; empty: none goes first.

    Half of the steps of a long gradient attack with a budget, once. What it breaks so early the exact model would break
    too, given all steps, so that numbers stay the same; of the last steps that cannot be said, and of a short attack
    half is too little to be worth it. Nor does one go first at a randomised model, which would be scored twice where
    the first score counts for the attack.
    """
    facts, params = attacks.attack.entry(cell.name).facts, cell.attack.params if cell.attack else {}
    bounded = cell.eps is not None and not attacks.is_minimum(cell.name)
    fits = cell.kind == "attack" and cell.backend == "native" and bounded and facts.get("iterative")
    steps = int(params.get("steps", 0))
    if not fits or steps < LONG or cell.eot > 1:
        return {}
    return {"steps": steps // 2, **({"restarts": 1} if "restarts" in params else {})}


def configured(cell: Cell, spec: Spec) -> Craft:
    """Return the attack of a cell with its whole configuration, and with what an evaluation decides if it takes it."""
    # Where the mean of a randomised model's passes has just been fooled, every other single pass is not: go on.
    early = cell.kind == "attack" and cell.eot == 1
    decided = {"eps": cell.eps, "norm": cell.norm, "targeted": cell.targeted, "stop_early": early}
    takes = {param.name for param in attacks.attack.entry(spec.name).params}
    if cell.targeted and "targeted" not in takes:
        raise UserError(f"attack '{spec.name}' has no targeted mode; leave it out or leave out --targeted.")
    return functools.partial(
        attacks.attack.get(spec.name), **spec.params, **{k: v for k, v in decided.items() if k in takes}
    )

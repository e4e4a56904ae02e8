"""One cell: craft, verify, record. The attack is never believed: every image is checked and re-scored here."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from robustkit.base.progress import Advance, unseen
from robustkit.data import Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.ensembles.fastpath import Crafting
from robustkit.evaluation.crafting import AttackRunner, Block
from robustkit.evaluation.scoring import SCORE_BATCH, SIZES
from robustkit.functional.precision import arithmetic
from robustkit.records.cells import Cell, Run
from robustkit.records.samples import CARRIED, CONFIRMED, ERROR, HERE, MISSED, NOT_ATTACKED, Samples
from robustkit.study.targets import target_labels

if TYPE_CHECKING:
    from robustkit.evaluation.executors import Executor

HISTORY = 64  # of how many samples the loss history is kept
PROBE = 64  # how many of the samples broken at a smaller eps are attacked anew, as a check
BLOCK = 4 * SCORE_BATCH  # samples in memory at a time, where one of them is small; on a GPU four of its batches ...
BLOCK_BYTES = 2**28  # ... and the memory that their images may take
EXAMPLE_BYTES = 2**28  # what the images kept of one cell may take; further ones are not kept
PIXELS = 3 * 32 * 32  # of an image of which 256 are attacked at a time on a CPU, 2,048 on a GPU

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class RunOptions:
    """How cells are run.

    ``batch_size`` None: by the size of the images and the device, halved where memory runs out. ``workers`` pieces of
    work run side by side. Neither changes a number. ``speed`` is that of :func:`robustkit.ensembles.fastpath.prepare`;
    it may break a sample that another speed does not, one in a thousand. ``executor`` runs pieces of work; None:
    threads of this process. ``devices`` are the GPUs that these share, where there are several; ``device`` is the
    first of them.
    """

    device: torch.device
    batch_size: int | None = None
    keep_examples: bool = True
    workers: int = 1
    speed: str = "auto"
    executor: Executor | None = field(default=None, compare=False, repr=False)
    devices: tuple[torch.device, ...] = field(default=(), compare=False)

    def batch(self, shape: tuple[int, ...]) -> int:
        """Return the batch size for images of a shape (C, H, W)."""
        if self.batch_size is not None:
            return self.batch_size
        most = 256 if self.device.type == "cpu" else 2048
        return max(16, min(most, most * PIXELS // math.prod(shape)))


def run_cell(
    cell: Cell,
    ensemble: Ensemble,
    split: Split,
    clean: Samples | None,
    run_options: RunOptions,
    advance: Advance | None = None,
    crafting: Crafting | None = None,
    lower: Samples | None = None,
) -> Run:
    """Run one cell on every sample of a split.

    Parameters
    ----------
    ensemble : Ensemble
        In eval mode, fp32, on ``run_options.device``; never changed. It alone scores.
    crafting : Crafting or None
        What the attack is shown (:func:`robustkit.ensembles.fastpath.prepare`), of the ensemble ``cell.attacked``;
        None: the ensemble itself.
    clean : Samples or None
        Of the clean cell of the same ensemble and data; required unless the cell is the clean one.
    lower : Samples or None
        Of the cell that ``cell.after`` names: what it broke is taken over, but for the first 64 not attacked again.

    Returns
    -------
    Run
        With one row per sample, in the order of the split.
    """
    started = time.perf_counter()
    if cell.attack is not None and clean is None:
        raise ValueError("an attack cell needs the samples of the clean cell")
    if bool(cell.after) != (lower is not None):
        raise ValueError("a cell needs the samples of the cell that it comes after")
    batch_size = max(
        1, run_options.batch(split.shape) // cell.eot
    )  # several passes of a batch may be in memory at once
    runner = AttackRunner(
        cell, ensemble, crafting or Crafting(ensemble), run_options.device, batch_size, run_options.workers,
        advance or unseen,
    )  # fmt: skip
    keep = cell.attack is not None and run_options.keep_examples and (lower is None or len(lower.examples) > 0)
    left = _Left(PROBE, HISTORY, EXAMPLE_BYTES if keep else 0)
    rows = torch.split(torch.arange(len(split)), _block_size(split, run_options))
    samples = Samples.joined([_run_block(runner, left, split, r, _take(clean, r), _take(lower, r)) for r in rows])
    made_on = environment(run_options.device) | ({"crafting": runner.crafting.chosen} if cell.attack else {})
    return Run(cell, samples, time.perf_counter() - started, tuple(sorted(set(runner.warnings))), made_on)


def environment(device: torch.device) -> dict[str, Any]:
    """Return what a number may depend on besides the question: versions and the machine."""
    import platform

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "device": str(device),
        "device_name": name,
        "threads": torch.get_num_threads(),
        **arithmetic(device),
    }


def broken(samples: Samples, targeted: bool) -> Bools:
    """Return which samples (N,) an attack has won, wherever their images are from: no answer drawn may be another."""
    won = samples.chance(samples.target) == 1 if targeted else samples.chance(samples.y) == 0
    result: Bools = won & (samples.status != NOT_ATTACKED) & ~samples.failed
    return result


@dataclass
class _Left:
    """What later blocks of a cell may still use."""

    probes: int
    history: int
    example_bytes: int


def _run_block(
    runner: AttackRunner, left: _Left, split: Split, rows: Tensor, clean: Samples | None, lower: Samples | None
) -> Samples:
    """Craft, verify and score one block."""
    cell, block = runner.cell, Block.of(split, rows, runner.ensemble, left.history)
    left.history -= block.keep
    carried = torch.full((len(rows),), HERE)
    if cell.attack is None or clean is None:
        runner.score(block, torch.arange(len(rows)))
        runner.advance(len(rows))
    else:
        block.score_as(clean)
        if cell.targeted:
            block.target = target_labels(cell.target, cell.seed, block.ids, block.y, torch.from_numpy(clean.fused))
            block.aims = block.target
        if lower is not None:
            carried[torch.from_numpy(broken(lower, cell.targeted))] = CARRIED
        chosen = _chosen(cell, left, block, carried)
        runner.advance(len(rows) - len(chosen))
        runner.craft(cell.attack, block, chosen)
    samples = _samples(left, block, carried)
    return samples if lower is None else _carry(samples, lower, cell.targeted)


def _chosen(cell: Cell, left: _Left, block: Block, carried: Tensor) -> Tensor:
    """Return the rows of a block that are attacked, ascending."""
    every = torch.arange(len(block.y))
    wanted = (block.aims >= 0) & (block.status != ERROR)
    # What is won without a perturbation is left as it is, unless that may have been the luck of a single pass.
    if cell.kind == "attack" and cell.eot == 1:
        wanted &= ~block.won(every, cell.targeted)
    known = every[carried == CARRIED]
    wanted[known[left.probes :]] = False
    left.probes = max(0, left.probes - len(known))
    return every[wanted]


def _samples(left: _Left, block: Block, carried: Tensor) -> Samples:
    """Return the facts of one block."""
    l0, l1, l2, linf = block.sizes.numpy()
    # A copy: a part of the images would keep all of the block's in memory.
    examples = block.perturbed[: left.example_bytes // max(1, block.x[0].nbytes)].clone()
    left.example_bytes -= examples.nbytes
    return Samples(
        ids=block.ids.numpy(),
        y=block.y.numpy(),
        target=block.target.numpy(),
        member_logits=block.member_logits.numpy(),
        fused=block.fused.numpy(),
        l0=l0, l1=l1, l2=l2, linf=linf,
        forwards=block.forwards.numpy(),
        backwards=block.backwards.numpy(),
        seconds=block.seconds.numpy(),
        status=block.status.numpy(),
        carried=carried.numpy(),
        history=block.joined_history().numpy(),
        examples=examples.numpy(),
        randomised=np.full(len(block.y), block.randomised),
    )  # fmt: skip


def _carry(samples: Samples, lower: Samples, targeted: bool) -> Samples:
    """Replace the rows that the smaller eps broke by its own, but for those whose attack crashed here."""
    taken = (samples.carried == CARRIED) & ~samples.failed
    tried = taken & (samples.status != NOT_ATTACKED)
    carried = samples.carried.copy()
    carried[tried] = np.where(broken(samples, targeted)[tried], CONFIRMED, MISSED)
    carried[(samples.carried == CARRIED) & ~taken] = HERE
    changed: dict[str, Any] = {"carried": carried}
    for name in ("fused", *SIZES, "forwards", "backwards", "status"):
        value = getattr(samples, name).copy()
        value[taken] = getattr(lower, name)[taken]
        changed[name] = value
    changed["member_logits"] = np.where(taken[None, :, None], lower.member_logits, samples.member_logits)
    if len(samples.examples):
        at = taken[: len(samples.examples), None, None, None]
        changed["examples"] = np.where(at, lower.examples[: len(samples.examples)], samples.examples)
    return replace(samples, **changed)


def _block_size(split: Split, run_options: RunOptions) -> int:
    """Return how many samples are in memory at a time: a multiple of the scores' batch, so that blocks change none."""
    most = BLOCK if run_options.device.type == "cpu" else max(BLOCK, 4 * run_options.batch(split.shape))
    wanted = max(run_options.batch_size or 0, min(most, BLOCK_BYTES // (4 * math.prod(split.shape))))
    return SCORE_BATCH * max(1, -(-wanted // SCORE_BATCH))


def _take(samples: Samples | None, rows: Tensor) -> Samples | None:
    """Return consecutive rows of samples, without their histories."""
    return None if samples is None else samples.select(slice(int(rows[0]), int(rows[-1]) + 1))

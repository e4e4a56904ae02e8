"""One cell: craft, verify, record. The attack is never believed: every image is checked and re-scored here."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustkit import attacks
from robustkit.data import Split
from robustkit.ensemble import Ensemble
from robustkit.errors import UserError
from robustkit.progress import Advance
from robustkit.records import CARRIED, CONFIRMED, ERROR, HERE, MISSED, NOT_ATTACKED, Cell, Run, Samples, Spec
from robustkit.sampling import SampleGenerator
from robustkit.scoring import SCORE_BATCH, SIZES, Scores, score, verify
from robustkit.targets import target_labels
from robustkit.trace import Trace

HISTORY = 64  # of how many samples the loss history is kept
PROBE = 64  # how many of the samples broken at a smaller eps are attacked anew, as a check
BLOCK = 4 * SCORE_BATCH  # samples in memory at a time, where one of them is small ...
BLOCK_BYTES = 2**28  # ... and the memory that their images may take
EXAMPLE_BYTES = 2**28  # what the images kept of one cell may take; further ones are not kept

Craft = Callable[..., Tensor]


@dataclass(frozen=True)
class Setting:
    """How a cell is run; nothing here changes a number."""

    device: torch.device
    batch_size: int = 256
    keep_examples: bool = True


def run_cell(
    cell: Cell,
    ensemble: Ensemble,
    split: Split,
    clean: Samples | None,
    setting: Setting,
    advance: Advance | None = None,
    attacked: Ensemble | None = None,
    lower: Samples | None = None,
) -> Run:
    """Run one cell on every sample of a split.

    Parameters
    ----------
    ensemble : Ensemble
        In eval mode, fp32, on ``setting.device``; never changed. It alone scores.
    attacked : Ensemble or None
        What the attack is shown: an equal, faster copy (``robustkit.fastpath``), or None for the ensemble itself.
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
    work = _Work(cell, ensemble, attacked or ensemble, split, setting, advance or (lambda steps=1, note="": None))
    if cell.attack is not None and setting.keep_examples and (lower is None or len(lower.examples)):
        work.room = EXAMPLE_BYTES
    blocks = torch.split(torch.arange(len(split)), _block_size(split, setting))
    samples = _joined([_run_block(work, rows, _take(clean, rows), _take(lower, rows)) for rows in blocks])
    return Run(
        cell, samples, time.perf_counter() - started, tuple(dict.fromkeys(work.warnings)), environment(setting.device)
    )


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
    }


def broken(samples: Samples, targeted: bool) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which samples (N,) an attack has won, wherever their images are from."""
    won = samples.prediction == samples.target if targeted else samples.prediction != samples.y
    result: np.ndarray[Any, np.dtype[np.bool_]] = won & (samples.status != NOT_ATTACKED) & (samples.status != ERROR)
    return result


@dataclass
class _Work:
    """What stays the same over the blocks of a cell, and what they use up."""

    cell: Cell
    ensemble: Ensemble
    attacked: Ensemble
    split: Split
    setting: Setting
    advance: Advance
    warnings: list[str] = field(default_factory=list)
    probes: int = PROBE
    room: int = 0  # bytes that further images may take
    history: int = HISTORY
    batch_size: int = 0

    def __post_init__(self) -> None:
        self.batch_size = self.setting.batch_size


@dataclass
class _Block:
    """Consecutive samples of the split, one row each, and what crafting fills in."""

    ids: Tensor
    x: Tensor
    y: Tensor
    aims: Tensor  # what the attack is given as label
    made: Tensor
    status: Tensor
    forwards: Tensor
    backwards: Tensor
    seconds: Tensor
    keep: int  # of how many rows, from the first, the loss history is kept
    history: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @classmethod
    def of(cls, split: Split, rows: Tensor, keep: int) -> _Block:
        ids, x, y = split.batch(rows)
        n = len(rows)
        zeros = torch.zeros(n, dtype=torch.int64)
        return cls(
            ids=ids, x=x, y=y, aims=y, made=x.clone(), status=torch.full((n,), NOT_ATTACKED), forwards=zeros,
            backwards=zeros.clone(), seconds=torch.zeros(n), keep=min(keep, n),
        )  # fmt: skip


def _run_block(work: _Work, rows: Tensor, clean: Samples | None, lower: Samples | None) -> Samples:
    """Craft, verify and score one block."""
    cell, block = work.cell, _Block.of(work.split, rows, work.history)
    work.history -= block.keep
    target, carried = torch.full((len(rows),), -1), torch.full((len(rows),), HERE)
    if cell.attack is not None and clean is not None:
        if cell.targeted:
            block.aims = target = target_labels(
                cell.target, cell.seed, block.ids, block.y, torch.from_numpy(clean.fused)
            )
        if lower is not None:
            carried[torch.from_numpy(broken(lower, cell.targeted))] = CARRIED
        chosen = _chosen(work, block, target, carried, torch.from_numpy(clean.prediction))
        work.advance(len(rows) - len(chosen))
        _craft_all(work, cell.attack, block, chosen)
    else:
        work.advance(len(rows))
    scores = score(work.ensemble, block.x, block.made, work.setting.device)
    if not bool(scores.finite.all()):
        work.warnings.append("the model's output is not finite on some images")
        block.status[~scores.finite] = ERROR
    samples = _samples(work, block, scores, target, carried)
    return samples if lower is None else _carry(samples, lower, cell.targeted)


def _chosen(work: _Work, block: _Block, target: Tensor, carried: Tensor, prediction: Tensor) -> Tensor:
    """Return the rows of a block that are attacked, ascending."""
    wanted = block.aims >= 0
    if work.cell.kind == "attack":  # what is won without a perturbation is left as it is
        wanted &= (prediction != target) if work.cell.targeted else (prediction == block.y)
    known = torch.nonzero(carried == CARRIED).squeeze(1)
    wanted[known[work.probes :]] = False
    work.probes = max(0, work.probes - len(known))
    return torch.nonzero(wanted).squeeze(1)


def _carry(samples: Samples, lower: Samples, targeted: bool) -> Samples:
    """Replace the rows that the smaller eps broke by its own, but for those whose attack crashed here."""
    taken = (samples.carried == CARRIED) & (samples.status != ERROR)
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


def configured(cell: Cell, spec: Spec) -> Craft:
    """Return the attack of a cell with its whole configuration, and with what an evaluation decides if it takes it."""
    decided = {"eps": cell.eps, "norm": cell.norm, "targeted": cell.targeted, "stop_early": cell.kind == "attack"}
    takes = {param.name for param in attacks.attack.entry(spec.name).params}
    if cell.targeted and "targeted" not in takes:
        raise UserError(f"attack '{spec.name}' has no targeted mode; leave it out or leave out --targeted.")
    return functools.partial(attacks.get(spec.name), **spec.params, **{k: v for k, v in decided.items() if k in takes})


def _craft_all(work: _Work, spec: Spec, block: _Block, rows: Tensor) -> None:
    """Attack the given rows of a block, batch by batch."""
    model = work.attacked.view(work.cell.source)
    craft = configured(work.cell, spec)
    while len(rows):
        batch, rows = rows[: work.batch_size], rows[work.batch_size :]
        _craft(work, craft, model, block, batch)
        work.advance(len(batch))


def _craft(work: _Work, craft: Craft, model: nn.Module, block: _Block, batch: Tensor) -> None:
    """Attack one batch of a block and check what comes back."""
    cell, device = work.cell, work.setting.device
    kept = int((batch < block.keep).sum())  # batches ascend, so the kept rows come first
    trace = Trace(len(batch), keep=kept)
    generator = SampleGenerator(cell.seed, block.ids[batch], f"{cell.name}/{cell.source}")
    started = time.perf_counter()
    try:
        made = craft(model, block.x[batch].to(device), block.aims[batch].to(device), generator=generator, trace=trace)
    except Exception as error:  # noqa: BLE001 - whatever an attack raises is recorded, as an error and never as robust
        if len(batch) > 1 and isinstance(error, FloatingPointError | torch.OutOfMemoryError):
            half = (len(batch) + 1) // 2
            if isinstance(error, torch.OutOfMemoryError):
                work.batch_size = min(work.batch_size, half)  # what does not fit now will not fit later
            for part in torch.split(batch, half):
                _craft(work, craft, model, block, part)
            return
        block.status[batch] = ERROR
        work.warnings.append(f"{cell.name} failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
        return
    block.seconds[batch] = (time.perf_counter() - started) / len(batch)
    block.forwards[batch], block.backwards[batch] = trace.forwards, trace.backwards
    block.made[batch], block.status[batch], warnings = verify(made, block.x[batch], cell)
    work.warnings += warnings
    if kept:
        block.history.append((batch[:kept], trace.history))


def _samples(work: _Work, block: _Block, scores: Scores, target: Tensor, carried: Tensor) -> Samples:
    """Return the facts of one block."""
    l0, l1, l2, linf = scores.sizes.numpy()
    examples = block.made[: work.room // max(1, block.x[0].nbytes)]
    work.room -= examples.nbytes
    return Samples(
        ids=block.ids.numpy(),
        y=block.y.numpy(),
        target=target.numpy(),
        member_logits=scores.member_logits.numpy(),
        fused=scores.fused.numpy(),
        l0=l0, l1=l1, l2=l2, linf=linf,
        forwards=block.forwards.numpy(),
        backwards=block.backwards.numpy(),
        seconds=block.seconds.numpy(),
        status=block.status.numpy(),
        carried=carried.numpy(),
        history=_histories(block).numpy(),
        examples=examples.numpy(),
    )  # fmt: skip


def _histories(block: _Block) -> Tensor:
    """Return the loss histories of the kept rows (keep, T), NaN where a sample has none."""
    steps = max((h.shape[1] for _, h in block.history), default=0)
    joined = torch.full((block.keep, steps), float("nan"))
    for rows, history in block.history:
        joined[rows, : history.shape[1]] = history
    return joined


def _block_size(split: Split, setting: Setting) -> int:
    """Return how many samples are in memory at a time: a multiple of the scores' batch, so that blocks change none."""
    fit = BLOCK_BYTES // (4 * math.prod(split.shape))
    wanted = max(setting.batch_size, min(BLOCK, fit))
    return SCORE_BATCH * max(1, -(-setting.batch_size // SCORE_BATCH), wanted // SCORE_BATCH)


def _take(samples: Samples | None, rows: Tensor) -> Samples | None:
    """Return consecutive rows of samples, without their histories."""
    if samples is None:
        return None
    part = slice(int(rows[0]), int(rows[-1]) + 1)
    arrays = {
        name: values[:, part] if name == "member_logits" else values[:0] if name == "history" else values[part]
        for name, values in samples.arrays().items()
    }
    return Samples(**arrays)


def _joined(parts: list[Samples]) -> Samples:
    """Put the samples of consecutive blocks together."""
    steps = max(part.history.shape[1] for part in parts)
    history = [np.pad(p.history, ((0, 0), (0, steps - p.history.shape[1])), constant_values=np.nan) for p in parts]
    arrays = {
        name: np.concatenate([getattr(part, name) for part in parts], axis=1 if name == "member_logits" else 0)
        for name in parts[0].arrays()
        if name != "history"
    }
    return Samples(**arrays, history=np.concatenate(history))

"""One cell: craft, verify, record. The attack is never believed: every image is checked and re-scored here."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustkit import attacks
from robustkit.data import Split
from robustkit.ensemble import Ensemble
from robustkit.errors import UserError
from robustkit.norms import project, size
from robustkit.progress import Advance
from robustkit.records import ERROR, NOT_ATTACKED, OK, OVER_BUDGET, Cell, Run, Samples, Spec
from robustkit.sampling import SampleGenerator
from robustkit.targets import target_labels
from robustkit.trace import Trace

SCORE_BATCH = 256  # fixed: the reported scores must not depend on --batch-size
HISTORY = 64  # of how many samples the loss history is kept
TOLERANCE = 1e-6  # by which float32 rounding may exceed a budget

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

    Returns
    -------
    Run
        With one row per sample, in the order of the split.
    """
    started = time.perf_counter()
    advance = advance or (lambda steps=1, note="": None)
    crafted = _Crafted.empty(split, setting)
    if cell.attack is not None:
        if clean is None:
            raise ValueError("an attack cell needs the samples of the clean cell")
        _craft_all(cell, cell.attack, attacked or ensemble, split, clean, setting, crafted, advance)
    samples = _score(ensemble, split, crafted, setting)
    if cell.attack is None:
        advance(len(split))
    return Run(
        cell,
        samples,
        time.perf_counter() - started,
        tuple(dict.fromkeys(crafted.warnings)),
        environment(setting.device),
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


@dataclass
class _Crafted:
    """What crafting fills in, one row per sample."""

    x: Tensor
    target: Tensor
    status: Tensor
    forwards: Tensor
    backwards: Tensor
    seconds: Tensor
    history: Tensor
    warnings: list[str]

    @classmethod
    def empty(cls, split: Split, setting: Setting) -> _Crafted:
        n = len(split)
        zeros = torch.zeros(n, dtype=torch.int64)
        return cls(
            x=split.batch(torch.arange(n))[1],
            target=torch.full((n,), -1),
            status=torch.full((n,), NOT_ATTACKED),
            forwards=zeros.clone(),
            backwards=zeros.clone(),
            seconds=torch.zeros(n),
            history=torch.zeros(min(HISTORY, n), 0),
            warnings=[],
        )


def _craft_all(
    cell: Cell, spec: Spec, ensemble: Ensemble, split: Split, clean: Samples, setting: Setting,
    crafted: _Crafted, advance: Advance,
) -> None:  # fmt: skip
    """Attack every sample that the cell is about, batch by batch, and check what comes back."""
    if cell.targeted:
        crafted.target = target_labels(cell.target, cell.seed, split.ids, split.y, torch.from_numpy(clean.fused))
    aims = crafted.target if cell.targeted else split.y
    rows = torch.arange(len(split))
    if cell.kind == "attack":  # what is won without a perturbation is left as it is
        prediction = torch.from_numpy(clean.prediction)
        rows = rows[(prediction != crafted.target) if cell.targeted else (prediction == split.y)]
    rows = rows[aims[rows] >= 0]
    advance(len(split) - len(rows))
    model = ensemble.view(cell.source)
    craft = configured(cell, spec)
    histories = []
    for batch in torch.split(rows, setting.batch_size):
        histories.append(_craft(cell, craft, model, batch, aims, split, setting, crafted))
        crafted.status[batch] = torch.where(crafted.status[batch] == NOT_ATTACKED, OK, crafted.status[batch])
        advance(len(batch))
    crafted.history = _join([h for h in histories if h is not None], len(crafted.history))


def configured(cell: Cell, spec: Spec) -> Craft:
    """Return the attack of a cell with its whole configuration, and with what an evaluation decides if it takes it."""
    decided = {"eps": cell.eps, "norm": cell.norm, "targeted": cell.targeted, "stop_early": cell.kind == "attack"}
    takes = {param.name for param in attacks.attack.entry(spec.name).params}
    if cell.targeted and "targeted" not in takes:
        raise UserError(f"attack '{spec.name}' has no targeted mode; leave it out or leave out --targeted.")
    return functools.partial(attacks.get(spec.name), **spec.params, **{k: v for k, v in decided.items() if k in takes})


def _craft(
    cell: Cell, craft: Craft, model: nn.Module, batch: Tensor, aims: Tensor, split: Split, setting: Setting,
    crafted: _Crafted,
) -> tuple[Tensor, Tensor] | None:  # fmt: skip
    """Attack one batch; return the rows and their loss history, if any of them are among those kept."""
    ids, x, _ = split.batch(batch)
    on_device = x.to(setting.device)
    kept = int((batch < len(crafted.history)).sum())  # batches ascend, so the kept rows come first
    trace = Trace(len(batch), keep=kept)
    generator = SampleGenerator(cell.seed, ids, f"{cell.name}/{cell.source}")
    started = time.perf_counter()
    try:
        made = craft(model, on_device, aims[batch].to(setting.device), generator=generator, trace=trace)
    except Exception as error:  # noqa: BLE001 - whatever an attack raises is recorded, as an error and never as robust
        if len(batch) > 1 and isinstance(error, FloatingPointError | torch.OutOfMemoryError):
            for half in torch.split(batch, (len(batch) + 1) // 2):
                _craft(cell, craft, model, half, aims, split, setting, crafted)
            return None
        crafted.status[batch] = ERROR
        crafted.warnings.append(f"{cell.name} failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
        return None
    crafted.seconds[batch] = (time.perf_counter() - started) / len(batch)
    crafted.forwards[batch], crafted.backwards[batch] = trace.forwards, trace.backwards
    crafted.x[batch], crafted.status[batch] = _verify(made, x, cell, crafted.warnings)
    return (batch[:kept], trace.history) if kept else None


def _verify(made: Tensor, x: Tensor, cell: Cell, warnings: list[str]) -> tuple[Tensor, Tensor]:
    """Return images that lie in the ball and the box, and a status for each: an attack's own word does not count."""
    status = torch.full((len(x),), OK)
    if not isinstance(made, Tensor) or made.shape != x.shape:
        warnings.append(f"{cell.name} returned no images of shape {tuple(x.shape)}")
        return x, torch.full((len(x),), ERROR)
    made = made.detach().cpu().float()
    finite = torch.isfinite(made).flatten(1).all(1)
    if not bool(finite.all()):
        warnings.append(f"{cell.name} returned pixels that are not finite")
        status[~finite] = ERROR
        made = torch.where(finite[:, None, None, None], made, x)
    outside = ((made < -TOLERANCE) | (made > 1 + TOLERANCE)).flatten(1).any(1)
    where = "the [0, 1] box"
    if cell.eps is not None:
        outside |= size(made - x, cell.norm) > cell.eps + TOLERANCE * max(1.0, cell.eps)
        where = f"the {cell.norm} ball of eps {cell.eps:g} or {where}"
        made = project(made, x, cell.eps, cell.norm)
    if bool(outside.any()):
        warnings.append(f"{cell.name} left {where}; its images were projected")
        status[outside & finite] = OVER_BUDGET
    return made.clamp(0.0, 1.0), status


def _join(histories: list[tuple[Tensor, Tensor]], kept: int) -> Tensor:
    """Put the histories of several batches into one (kept, T), NaN where a sample has none."""
    steps = max((h.shape[1] for _, h in histories), default=0)
    joined = torch.full((kept, steps), float("nan"))
    for rows, history in histories:
        joined[rows, : history.shape[1]] = history
    return joined


@torch.no_grad()
def _score(ensemble: Ensemble, split: Split, crafted: _Crafted, setting: Setting) -> Samples:
    """Score the images with the untouched model and measure the perturbations."""
    logits, sizes = [], []
    for rows in torch.split(torch.arange(len(split)), SCORE_BATCH):
        _, x, _ = split.batch(rows)
        images = crafted.x[rows]
        logits.append(ensemble.member_logits(images.to(setting.device)).float().cpu())
        delta = images - x
        l0 = size(delta, "l0") / delta[0].numel()
        sizes.append(torch.stack([l0, *(size(delta, norm) for norm in ("l1", "l2", "linf"))]))
    member_logits = torch.cat(logits, 1)
    l0, l1, l2, linf = torch.cat(sizes, 1).float().numpy()
    broken = ~torch.isfinite(member_logits).all(2).all(0)
    status = torch.where(broken, ERROR, crafted.status)
    if bool(broken.any()):
        crafted.warnings.append("the model's output is not finite on some images")
    changed = bool((crafted.status != NOT_ATTACKED).any())
    return Samples(
        ids=split.ids.numpy(),
        y=split.y.numpy(),
        target=crafted.target.numpy(),
        member_logits=member_logits.numpy(),
        fused=ensemble.fuse(member_logits).numpy(),
        l0=l0, l1=l1, l2=l2, linf=linf,
        forwards=crafted.forwards.numpy(),
        backwards=crafted.backwards.numpy(),
        seconds=crafted.seconds.numpy(),
        status=status.numpy(),
        history=crafted.history.numpy(),
        examples=crafted.x.numpy() if changed and setting.keep_examples else np.zeros((0,), np.float32),
    )  # fmt: skip

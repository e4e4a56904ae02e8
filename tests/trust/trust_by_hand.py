"""Runs, facts, models and jobs in which everything is known, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustkit.attacks import spec
from robustkit.data import Split
from robustkit.ensembles.ensemble import Ensemble
from robustkit.ensembles.fastpath import Crafting
from robustkit.evaluation.cell import RunOptions, run_cell
from robustkit.records.cells import Cell, DatasetRecord, EnsembleRecord, Run, Spec
from robustkit.records.samples import HERE, OK, Samples
from robustkit.study.plan import Study
from robustkit.trust import Evidence, Probed, Scored, judge, probe
from robustkit.trust._evidence import families

N = 200
SETTING = RunOptions(torch.device("cpu"), speed="off", keep_examples=False)
SHAPE = (1, 2, 3)


def samples(wrong: Sequence[int] | np.ndarray, n: int = N, classes: int = 2, members: int = 1, **more: Any) -> Samples:
    """Samples of label 0, of which some are misclassified."""
    fused = np.full((n, classes), -5.0, np.float32)
    hit = np.zeros(n, bool)
    hit[np.asarray(wrong, int)] = True
    fused[np.arange(n), hit.astype(int)] = 0.0
    zeros, sizes = np.zeros(n, np.int64), np.zeros(n, np.float32)
    arrays = {
        "ids": np.arange(n), "y": zeros, "target": zeros - 1, "member_logits": np.stack([fused] * members),
        "fused": fused, **dict.fromkeys(("l0", "l1", "l2", "linf", "seconds"), sizes), "forwards": zeros,
        "backwards": zeros, "status": zeros + OK, "carried": zeros + HERE, "history": np.zeros((0, 0), np.float32),
        "examples": np.zeros((0,), np.float32),
    }  # fmt: skip
    return Samples(**{**arrays, **more})


def rising(steps: int, speed: float, rows: int = 40) -> np.ndarray:
    """Loss histories 1 - exp(-speed t / steps): almost flat at the end for speed 20, still rising for 1."""
    one = 1 - np.exp(-speed * np.arange(steps + 1) / steps)
    return np.tile(one.astype(np.float32), (rows, 1))


def make(
    name: str = "pgd", eps: float | None = 0.1, steps: int | None = 100, broken: int = 100, first: int = 0,
    speed: float = 20, params: Mapping[str, Any] | None = None, at: float | None = None, **more: Any,
) -> Scored:  # fmt: skip
    """A run on N samples that breaks ``broken`` of them, from index ``first`` on; ``at``: where it is scored."""
    own = {"loss": "ce"} if name in ("pgd", "mim", "bim", "fgsm") else {}
    own = {**own, **({} if steps is None else {"steps": steps}), **(params or {})}
    facts = {k: more.pop(k) for k in ("status", "carried", "history", "forwards", "backwards", "linf") if k in more}
    if steps is not None:
        facts.setdefault("history", rising(steps, speed))
    cell = Cell("attack", "e", "d", Spec("attack", name, own), eps, **{"norm": "linf", **more})
    made = Run(cell, samples(np.arange(first, first + broken), **facts))
    return Scored(made, at if at is not None else eps or 0.0)


def probed(n: int = 100, rows: int | None = None, params: Mapping[str, Any] | None = None, **counts: Any) -> Probed:
    """Facts of the first n samples, ``rows`` of which were looked at: name=count notes True for the last so many rows.

    The last rows, because ``make`` breaks the first samples. An array is taken as it is, a float fills all rows.
    """
    looked = np.zeros(n, bool)
    looked[: n if rows is None else rows] = True
    arrays: dict[str, np.ndarray] = {"rows": looked}
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int):
            arrays[name] = np.asarray(value) if np.ndim(value) else np.full(n, value)
        else:
            arrays[name] = np.arange(n) >= n - value
    return Probed(params or {}, arrays)


def tried(name: str = "mora", n: int = N, broken: Any = 0, **params: Any) -> Probed:
    """Facts of the attack of another family that tried to lower a number, on the first n samples."""
    own = {"family": families(name)[0], "by": spec(name, **params).to_json()}
    return probed(n, broken=broken, params=own)


def about(
    run: Scored | None, *others: Scored, facts: Mapping[str, Probed] | None = None, outsider: str = "mora", **more: Any
) -> Evidence:
    """Evidence for a run, or with None for the worst case of the others at eps 0.1.

    ``outsider`` tried to lower the number on every sample and broke nothing, unless the facts say what it did; empty:
    nobody tried.
    """
    known = {**({"outsider": tried(outsider)} if outsider else {}), **(facts or {})}
    if run is None:
        return Evidence(None, others, more.pop("eps", 0.1), "linf", facts=known, **more)
    return Evidence.of(run, [run, *others], facts=known, **more)


def outcome(evidence: Evidence) -> tuple[str, dict[str, bool]]:
    """Return the verdict, and for each check that applied whether it passed."""
    verdict, checks = judge(evidence)
    assert all(bool(c["advice"]) != c["passed"] for c in checks)
    return verdict, {c["name"]: c["passed"] for c in checks}


def failed(evidence: Evidence) -> set[str]:
    """Return the names of the failing checks."""
    return {name for name, passed in outcome(evidence)[1].items() if not passed}


class Net(nn.Module):
    """A member from a function x (B, C, H, W) -> logits (B, L)."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def linear(classes: int = 2, scale: float = 1.0, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> Net:
    """Logits scale * w . (x - 1/2), w of standard normal numbers: the class is decided by the direction from grey."""
    draw = torch.Generator().manual_seed(seed)
    w = torch.randn(classes, int(np.prod(shape)), generator=draw)
    return Net(lambda x: scale * (x - 0.5).flatten(1) @ w.T)


def images(n: int, shape: tuple[int, ...] = SHAPE, seed: int = 1, low: float = 0.2, high: float = 0.8) -> Tensor:
    """Images (n, *shape), uniform in [low, high]."""
    return low + (high - low) * torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))


def ensemble_of(*functions: Callable[[Tensor], Tensor], fusion: Any = "mean-prob") -> Ensemble:
    members = [f if isinstance(f, nn.Module) else Net(f) for f in functions]
    return Ensemble(members, fusion).eval()


def labelled(ensemble: Ensemble, x: Tensor) -> Split:
    """The images with the labels that the ensemble gives them."""
    with torch.no_grad():
        return Split(x, ensemble(x).argmax(1))


def job(
    name: str, ensemble: Ensemble, split: Split, *, eps: float = 0.1, norm: str = "linf", level: str = "full",
    others: Mapping[str, Ensemble] | None = None, eot: int = 1, **params: Any,
) -> Any:  # fmt: skip
    """A job of a probe on all samples of a split."""
    from robustkit.trust._job import Job

    own = {**probe.entry(name).facts[level], **({"others": sorted(others)} if others else {}), **params}
    cell = Cell("probe", "own", "d", Spec("probe", name, own), eps, norm, eot=eot)
    clean = run_cell(Cell("clean", "own", "d"), ensemble, split, None, SETTING).samples
    shown = {"own": ensemble, **(others or {})}
    return Job(cell, ensemble, lambda key: Crafting(shown[key]), split, clean, SETTING)


def facts_of(name: str, ensemble: Ensemble, split: Split, **more: Any) -> dict[str, np.ndarray]:
    """Run a probe on all samples of a split."""
    return dict(probe.get(name)(job(name, ensemble, split, **more)))


def record(key: str = "own", members: int = 2, id: str = "adp") -> EnsembleRecord:
    return EnsembleRecord(id, key, "adp", {}, ("tiny",), members, "mean-prob", "ab" * 32)


def slope(scale: float, offset: float = 0.0, classes: int = 2) -> Net:
    """Logits (0, scale (mean(x) - 1/2) + offset, -1000, ...): the boundary is |mean(x) - 1/2| away, in linf."""

    def logits(x: Tensor) -> Tensor:
        z = torch.full((len(x), classes), -1000.0)
        z[:, 0] = 0.0
        return torch.cat([z[:, :1], (scale * (x.mean((1, 2, 3)) - 0.5) + offset)[:, None], z[:, 2:]], 1)

    return Net(logits)


def grey(*values: float, shape: tuple[int, ...] = SHAPE) -> Tensor:
    """Images (n, *shape), each of one value."""
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, *shape).contiguous()


def study_of(ensembles: Mapping[str, Ensemble], split: Split, *attacks: Spec, **more: Any) -> Study:
    """A study of ensembles by key, white-box alone, at eps 0.1, without a reference."""
    records = tuple(record(key, len(model), key) for key, model in ensembles.items())
    classes = tuple("0123456789"[: int(next(iter(ensembles.values()))(split.tensor()[:1]).shape[1])])
    data = DatasetRecord("grey", "test", len(split), classes, split.sha256(), split.shape)
    given: dict[str, Any] = {
        "eps": (0.1,), "norm": "linf", "transfer_eps": 0.1, "suites": ("attacks",), "reference": False,
    }  # fmt: skip
    return Study(records, data, attacks, **{**given, **more})

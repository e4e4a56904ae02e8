"""Host waits, copies and launches of a step, by attack and by way of training: ``python benchmarks/gpu_waits.py``.

Counted on the pretend GPU of the tests (``tests/accelerator.py``), so that no GPU is needed; how long anything takes on
one is not known from it. ``--lines NAME`` says at which lines of the project an attack waits.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from accelerator import Accelerator, pretend_cuda  # noqa: E402

from robustkit import attacks, defenses, models  # noqa: E402
from robustkit.attacks import attack  # noqa: E402
from robustkit.base.registry import REQUIRED, Entry  # noqa: E402
from robustkit.data import Split  # noqa: E402
from robustkit.ensembles.ensemble import Ensemble, Member  # noqa: E402
from robustkit.ensembles.fastpath import _folded, _Stacked  # noqa: E402
from robustkit.functional.sampling import SampleGenerator  # noqa: E402
from robustkit.functional.trace import Trace  # noqa: E402
from robustkit.records.cells import Spec  # noqa: E402
from robustkit.training import forward, optim  # noqa: E402
from robustkit.training.ranks import Ranks  # noqa: E402
from robustkit.training.samples import Samples  # noqa: E402
from robustkit.training.spec import TrainSpec  # noqa: E402
from robustkit.training.step import EpochRunner  # noqa: E402

GPU = torch.device("cuda:0")
EPS = {"linf": 0.01, "l2": 0.05, "l1": 0.5, "l0": 5.0}
COUNTS = ("waits", "copies", "launches")


def ensemble(arch: str) -> Ensemble:
    """Three untrained members on 32x32 images in colour."""
    torch.manual_seed(0)
    members = [Member(models.build(arch, 3, 10, {})) for _ in range(3)]
    return Ensemble(members).eval().requires_grad_(False)


def lengths(entry: Entry) -> tuple[str, int, int] | None:
    """Return which parameter is an attack's number of steps, and two lengths whose difference is what is counted."""
    names = {p.name for p in entry.params}
    return ("steps", 2, 4) if "steps" in names else ("queries", 10, 20) if "queries" in names else None


def settings(entry: Entry, norm: str) -> dict[str, Any]:
    """Return few runs of an attack, on all samples to the end."""
    names = {p.name for p in entry.params}
    given = {"norm": norm, "eps": EPS[norm], "restarts": 1, "search_steps": 1, "population": 2, "generations": 1,
             "queries": 2,
             "abort_early": False, "stop_early": False}  # fmt: skip
    return {name: value for name, value in given.items() if name in names}


def counted(gpu: Accelerator, function: Callable[[], object]) -> tuple[Counter[str], Counter[str]]:
    """Return how much of each kind a call makes, and its waits by line."""
    gpu.clear()
    function()
    return Counter({kind: sum(getattr(gpu, kind).values()) for kind in COUNTS}), gpu.waits.copy()


def attack_rows(gpu: Accelerator, arch: str, only: str) -> Iterator[tuple[str, dict[str, float], Counter[str]]]:
    """Yield what a step of each attack makes, and the waits of its last run by line."""
    model = ensemble(arch).to(GPU)
    x = torch.rand((8, 3, 32, 32), generator=torch.Generator().manual_seed(1)).to(GPU)
    y = model(x).argmax(1)
    for entry in attack:
        norm, length = entry.facts["norms"][0], lengths(entry)
        if length is None or (only and entry.name != only):
            continue
        name, short, long = length

        def once(count: int, entry: Entry = entry, norm: str = norm, name: str = name) -> None:
            draws = SampleGenerator(0, torch.arange(8), entry.name)
            given = {**settings(entry, norm), name: count}
            attacks.get(entry.name)(model, x, y, **given, generator=draws, trace=Trace(8, keep=8))

        (few, _), (many, lines) = (counted(gpu, lambda n=n: once(n)) for n in (short, long))
        yield entry.name, {kind: (many[kind] - few[kind]) / (long - short) for kind in COUNTS}, lines


def pass_rows(gpu: Accelerator, arch: str) -> dict[str, dict[str, float]]:
    """Return what a forward pass with input gradient makes, in each way in which attacks compute it."""
    plain = ensemble(arch).to(GPU)
    x = torch.rand((8, 3, 32, 32)).to(GPU)
    folded = _folded(plain, x)[0]
    rows = {}
    for name, model in (("as it is", plain), ("folded", folded), ("folded, stacked", _Stacked(folded))):

        def once(model: Ensemble = model) -> Tensor:
            point = x.detach().requires_grad_()
            return torch.autograd.grad(model(point).amax(1).sum(), point)[0]

        rows[f"attack pass, {name}"] = dict(counted(gpu, once)[0])
    return rows


def step_rows(gpu: Accelerator, arch: str) -> dict[str, dict[str, float]]:
    """Return what a training step makes: of each defence as it is, and of ADP in each way."""
    rows = {}
    pixels = torch.randint(256, (64, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    split = Split(pixels, torch.arange(64) % 10)
    ways = [("adp", way) for way in (forward.PLAIN, forward.LAYOUT, f"{forward.LAYOUT}, {forward.STACKED}")]
    plain = [(e.name, forward.PLAIN) for e in defenses.defense if not e.facts.get("companion") and e.name != "adp"]
    for name, way in ways + plain:
        entry = defenses.defense.entry(name)
        params = entry.defaults() | {p.name: "digits" for p in entry.params if p.default is REQUIRED}
        method = defenses.method(name, params)
        if "outliers" in method.facts.get("needs", ()):
            continue
        model = copy.deepcopy(ensemble(arch)).requires_grad_(True).to(GPU)
        spec = TrainSpec(Spec("defense", name, params), "", "", arch, batch_size=16)
        runner = EpochRunner(
            spec, method, model, forward.Forward(model, way, "features" in method.facts.get("needs", ())),
            optim.optimiser(spec, model.parameters()), Samples.of(split, GPU), None, None, Ranks(), lambda: None,
        )  # fmt: skip
        runner.epoch(0, lambda recent: None)  # the optimiser makes its state
        found, _ = counted(gpu, lambda runner=runner: runner.epoch(1, lambda recent: None))
        rows[f"training step, {name}, {way}"] = {kind: found[kind] / runner.steps for kind in COUNTS}
    return rows


def main() -> None:
    """Print the tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--arch", default="resnet20")
    parser.add_argument("--lines", default="", help="an attack, of which the lines that wait are shown")
    parser.add_argument("--passes", action="store_true", help="passes and training steps alone")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with pretend_cuda() as gpu:
        print("| a step of | waits | copies | launches |\n|---|---|---|---|")
        for name, row, lines in attack_rows(gpu, asked.arch, asked.lines) if not asked.passes else ():
            print(f"| {name} | {row['waits']:.1f} | {row['copies']:.1f} | {row['launches']:.0f} |", flush=True)
            if asked.lines:
                print("\n".join(f"{count:4} {line}" for line, count in lines.most_common()))
                return
        print("\n| one | waits | copies | launches |\n|---|---|---|---|")
        for label, one in {**pass_rows(gpu, asked.arch), **step_rows(gpu, asked.arch)}.items():
            print(f"| {label} | {one['waits']:.1f} | {one['copies']:.1f} | {one['launches']:.0f} |", flush=True)


if __name__ == "__main__":
    main()

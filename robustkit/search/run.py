"""A whole search: the method's candidates, trained, the best subset of them, and everything written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from robustkit import models
from robustkit.base import paths
from robustkit.base.devices import find_device
from robustkit.base.errors import UserError
from robustkit.base.files import writable, write_json
from robustkit.base.parallel import default_workers, run_all
from robustkit.base.progress import Reporter
from robustkit.base.version import __version__
from robustkit.data import Dataset
from robustkit.ensembles.checkpoint import CANDIDATES, read_meta, save_ensemble
from robustkit.ensembles.ensemble import Ensemble, Member
from robustkit.pipeline import models_under_test
from robustkit.records.cells import Spec
from robustkit.search import _ask, _choose, method
from robustkit.search._lab import Cost, Found, SearchLab
from robustkit.study.config import SearchConfig
from robustkit.training.spec import TrainSpec
from robustkit.training.untrained import accuracies

FORMAT, RECORD, PROGRESS = 1, "search.json", "search.progress"


def search(config: SearchConfig, data: Dataset) -> dict[str, Any]:
    """Run the method, train its candidates, choose and write an ensemble; return what ``search.json`` holds."""
    ask, reporter, device = _ask.check(config), config.reporter or Reporter(), find_device(config.device)
    folder = writable(Path(config.out), "--out")
    asked = {
        "method": ask.entry.name, "params": dict(ask.params), "dataset": data.name,
        "data_sha256": data.split("train").sha256(), "seed": config.seed, "members": ask.members, "version": __version__,
    }  # fmt: skip
    lab = SearchLab(
        data, members=ask.members, seed=config.seed, device=device, folder=folder / PROGRESS, reporter=reporter,
        asked=asked,
    )  # fmt: skip
    find: Callable[..., list[Found]] = method.get(ask.entry.name)
    candidates = find(lab, **ask.params)
    _check(candidates, ask.members)
    trained = _trained(candidates, lab, ask.training, config)
    with lab.phase("choice"):
        choice = _choose.best(
            [ensemble for ensemble, _ in trained], lab.validation, ask.members, config.fusion, config.seed
        )
    chosen = [candidates[at] for at in choice.subset]
    ensemble = (
        Ensemble([trained[at][0].members[0] for at in choice.subset], config.fusion or TrainSpec.fusion)
        .to(device)
        .eval()
    )
    test, own = accuracies(ensemble, data.split("test"))
    metrics = {
        "validation_accuracy": choice.accuracy, "test_accuracy": test, "test_member_accuracy": own,
        "subsets": choice.subsets, "seconds": sum(cost.seconds for cost in lab.costs_now().values()),
    }  # fmt: skip
    record = {
        "format": FORMAT, **asked, "training": _settings(trained), "chosen": [one.name for one in chosen],
        "candidates": [_row(one, ensemble_, meta) for one, (ensemble_, meta) in zip(candidates, trained, strict=True)],
        "costs": {name: asdict(cost) for name, cost in lab.costs_now().items()}, "metrics": metrics,
        "history": lab.histories,
    }  # fmt: skip
    save_ensemble(
        ensemble, folder, arch=[one.arch for one in chosen], arch_params=[one.arch_params for one in chosen],
        classes=list(data.classes), shape=data.shape, data={"name": data.name, "sha256": asked["data_sha256"]},
        training={"defense": Spec("defense", "baseline", {}).to_json(), "search": asked}, metrics=metrics,
    )  # fmt: skip
    write_json(folder / RECORD, record)
    return record


def _check(candidates: Sequence[Found], members: int) -> None:
    if len(candidates) < members:
        raise UserError(
            f"{members} members cannot be chosen of {len(candidates)} candidates; search for more, or lower --members."
        )
    if len({one.name for one in candidates}) < len(candidates):
        raise ValueError("two candidates have one name")


def _trained(
    candidates: Sequence[Found], lab: SearchLab, fields: Mapping[str, Any], config: SearchConfig
) -> list[tuple[Ensemble, Mapping[str, Any]]]:
    """Return each candidate as an ensemble of one member, and what its checkpoint says of it."""
    data, device = lab.data, lab.device
    jobs = list(enumerate(candidates))

    def train(job: tuple[int, Found]) -> tuple[Ensemble, Mapping[str, Any]]:
        at, one = job
        folder = Path(config.out) / CANDIDATES / one.name
        if one.weights is not None:
            return _given(one, folder, data)
        spec = models_under_test.train_spec(
            Spec("defense", "baseline", {}), data,
            {**fields, "arch": one.arch, "arch_params": one.arch_params, "members": 1}, speed=config.speed,
            seed=config.seed + at,
        )  # fmt: skip
        _, ensemble = models_under_test.trained(spec, data, device, lab.reporter)
        meta = read_meta(paths.cache_dir() / "ensembles" / spec.key)
        models_under_test.save(ensemble, folder, spec, data, meta["metrics"], meta["history"])
        return ensemble, meta

    done = run_all(train, jobs, config.workers or default_workers(device))
    seconds = sum(float(meta["metrics"].get("seconds", 0.0)) for _, meta in done)
    samples = sum(len(data.split("train")) * len(meta["history"]) for _, meta in done)
    if samples:
        lab.costs["training"] = Cost(seconds, samples, samples)
    return done


def _given(one: Found, folder: Path, data: Dataset) -> tuple[Ensemble, Mapping[str, Any]]:
    network = models.build(one.arch, data.shape[0], len(data.classes), one.arch_params)
    network.load_state_dict(dict(one.weights or {}))
    channels = data.shape[0]
    ensemble = Ensemble([Member(network, [0.0] * channels, [1.0] * channels)]).eval()
    accuracy, _ = accuracies(ensemble, data.split("validation"))
    save_ensemble(
        ensemble, folder, arch=[one.arch], arch_params=[one.arch_params], classes=list(data.classes), shape=data.shape,
        data={"name": data.name, "sha256": data.split("train").sha256()}, metrics={"validation_accuracy": accuracy},
    )  # fmt: skip
    return ensemble, read_meta(folder)


def _settings(trained: Sequence[tuple[Ensemble, Mapping[str, Any]]]) -> dict[str, Any] | None:
    own = {"arch", "arch_params", "seed"}
    training = trained[0][1].get("training")
    return None if training is None else {name: value for name, value in training.items() if name not in own}


def _row(one: Found, ensemble: Ensemble, meta: Mapping[str, Any]) -> dict[str, Any]:
    metrics = meta["metrics"]
    return {
        "name": one.name, "arch": one.arch, "arch_params": dict(one.arch_params), "facts": dict(one.facts),
        "validation_accuracy": metrics["validation_accuracy"], "seconds": metrics.get("seconds", 0.0),
        "parameters": sum(p.numel() for p in ensemble.parameters()),
    }  # fmt: skip


def show(record: Mapping[str, Any], console: Console) -> None:
    """Print what a search found: candidates, costs, accuracies."""
    for row in record["candidates"]:
        mark = "*" if row["name"] in record["chosen"] else " "
        said = row["facts"].get("architecture", "")
        console.print(f"{mark} {row['name']}: validation {row['validation_accuracy']:.4f}  {said}", highlight=False)
    for name, cost in record["costs"].items():
        console.print(
            f"  {name}: {cost['seconds']:.1f} s, {cost['forward']} forwards, {cost['backward']} backwards",
            highlight=False,
        )
    metrics = record["metrics"]
    console.print(
        f"test accuracy {metrics['test_accuracy']:.4f}, members "
        f"{', '.join(f'{a:.4f}' for a in metrics['test_member_accuracy'])}",
        highlight=False,
    )

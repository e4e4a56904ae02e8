"""A whole search: the method's candidates, trained, the best subset of them, and everything written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from robustkit.base.devices import find_device
from robustkit.base.errors import UserError
from robustkit.base.files import check_folder, writable, write_json
from robustkit.base.progress import Reporter
from robustkit.base.version import __version__
from robustkit.data import Dataset
from robustkit.ensembles.checkpoint import save_ensemble
from robustkit.ensembles.ensemble import Ensemble
from robustkit.evaluation import executors
from robustkit.metrics import subsets
from robustkit.models._genotype import from_json
from robustkit.search import _ask, _choose, _drawing, _page, method
from robustkit.search._folder import OURS, SearchFolder
from robustkit.search._lab import GENOTYPE, Found, SearchLab
from robustkit.search._training import PLAIN, train_all
from robustkit.study.config import SearchConfig
from robustkit.training.spec import TrainSpec
from robustkit.training.untrained import accuracies

FORMAT = 1


def search(config: SearchConfig, data: Dataset) -> dict[str, Any]:
    """Run the method, train its candidates, choose and write an ensemble; return what ``search.json`` holds.

    The search itself is one long piece that stays in this process; its candidates' trainings are the executor's.
    """
    ask, reporter, device = _ask.check(config), config.reporter or Reporter(), find_device(config.device)
    executor = executors.chosen(config, device)
    check_folder(Path(config.out), "--out", OURS, config.force)
    folder = writable(Path(config.out), "--out")
    asked = {
        "method": ask.entry.name, "params": dict(ask.params), "dataset": data.name,
        "data_sha256": data.split("train").sha256(), "seed": config.seed, "version": __version__,
    }  # fmt: skip
    place = SearchFolder(folder, asked)
    lab = SearchLab(
        data, members=ask.members, seed=config.seed, device=device, folder=place.progress, reporter=reporter,
        asked=asked,
    )  # fmt: skip
    find: Callable[..., list[Found]] = method.get(ask.entry.name)
    with executors.opened(executor, reporter):
        candidates = find(lab, **ask.params)
        _check(candidates, ask.members)
        place.begin()
        trained = train_all(candidates, lab, ask.training, config, place.candidates, executor)
    with lab.phase("choice"):
        every = [ensemble for ensemble, _ in trained]
        choice = _choose.best(every, lab.validation, ask.members, config.fusion, config.seed)
        chosen = [candidates[at] for at in choice.subset]
        members = [every[at].members[0] for at in choice.subset]
        ensemble = Ensemble(members, config.fusion or TrainSpec.fusion).to(device).eval()
        test, own = accuracies(ensemble, data.split("test"))
        # The rules that the choice cannot score take the subset that mean-prob likes best; the accuracy is their own.
        scored = (config.fusion or TrainSpec.fusion) in subsets.RULES
        validation = choice.accuracy if scored else accuracies(ensemble, lab.validation)[0]
    metrics = {
        "validation_accuracy": validation, "test_accuracy": test, "test_member_accuracy": own,
        "seconds": sum(cost.seconds for cost in lab.costs.values()),
    }  # fmt: skip
    record = {
        "format": FORMAT, **asked, "members": ask.members, "training": _settings(trained),
        "chosen": [one.name for one in chosen], "subsets": choice.subsets,
        "candidates": [_row(one, own_, meta) for one, (own_, meta) in zip(candidates, trained, strict=True)],
        "costs": {name: asdict(cost) for name, cost in lab.costs.items()}, "metrics": metrics,
        "history": lab.histories, "samples": {"validation": len(lab.validation), "test": len(data.split("test"))},
    }  # fmt: skip
    _draw(candidates, place.candidates)
    place.clear()
    place.put([one.name for one in candidates])
    save_ensemble(
        ensemble, folder, arch=[one.arch for one in chosen], arch_params=[one.arch_params for one in chosen],
        classes=list(data.classes), shape=data.shape, data={"name": data.name, "sha256": asked["data_sha256"]},
        training={"defense": PLAIN.to_json(), "search": asked}, metrics=metrics,
    )  # fmt: skip
    place.close(record)
    _page.write(record, folder)
    return record


def _draw(candidates: Sequence[Found], folder: Path) -> None:
    """Write the genotype and a picture of every candidate of the cell space beside its checkpoint."""
    for one in candidates:
        if one.arch == GENOTYPE:
            place, params = folder / one.name, dict(one.arch_params)
            value = params.pop("genotype")
            write_json(place / "genotype.json", {**value, "network": params})
            _drawing.draw(from_json(value), place / "cell.svg", one.name)


def _check(candidates: Sequence[Found], members: int) -> None:
    if len(candidates) < members:
        raise UserError(
            f"{members} members cannot be chosen of {len(candidates)} candidates; search for more, or lower --members."
        )
    if len({one.name for one in candidates}) < len(candidates):
        raise ValueError("two candidates have one name")


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

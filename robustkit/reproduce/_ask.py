"""What a reproduction is asked for, checked before torch is imported."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustkit import data, models
from robustkit.base import options
from robustkit.base.errors import UserError, unknown
from robustkit.base.registry import Entry
from robustkit.defenses import defense
from robustkit.evaluation import executors
from robustkit.evaluation.executors import LOCAL
from robustkit.reproduce import reproduction
from robustkit.study.config import ReproduceConfig

FACTS = ("title", "source", "datasets", "defenses", "attacks")


@dataclass(frozen=True)
class Ask:
    """A checked request.

    Attributes
    ----------
    dataset : str
        As the user typed it.
    stands_for : str
        Whose numbers of the paper it is compared with.
    settings : mapping
        ``--set`` by method: ``{"adp": {"alpha": "1"}}``.
    """

    entry: Entry
    dataset: str
    stands_for: str
    scale: str
    epochs: int | None
    n: int | None
    arch: str | None
    settings: dict[str, dict[str, Any]]
    data_dir: str | None
    download: bool
    device: str
    workers: int | None
    seed: int
    out: Path
    executor: str = LOCAL
    task_cpus: int = 1
    task_gpus: float | None = None

    @property
    def command(self) -> str:
        """The command line that asks for this."""
        given: list[tuple[str, Any]] = [
            ("--dataset", self.dataset),
            ("--as", self.stands_for if self.stands_for != self.dataset else None),
            ("--data-dir", self.data_dir),
            ("--scale", self.scale),
            *((f"--{name}", getattr(self, name)) for name in ("epochs", "n", "arch", "workers")),
            ("--seed", self.seed),
            ("--device", self.device if self.device != "auto" else None),
            ("--executor", self.executor if self.executor != LOCAL else None),
            ("--task-cpus", self.task_cpus if self.task_cpus != 1 else None),
            ("--task-gpus", self.task_gpus),
            *(("--set", f"{m}.{p}={v}") for m, params in self.settings.items() for p, v in params.items()),
            ("--out", self.out),
        ]
        words = [f"{option} {shlex.quote(str(value))}" for option, value in given if value is not None]
        return " ".join(["robustkit reproduce", self.entry.name, *words])


def check(config: ReproduceConfig) -> Ask:
    """Check a request; a :class:`UserError` names the first thing that is wrong and what is accepted."""
    executors.check(config.executor)
    entry = reproduction.entry(config.name)
    if missing := [fact for fact in FACTS if fact not in entry.facts]:
        raise ValueError(f"reproduction '{config.name}' is registered without {', '.join(missing)}")
    chosen, whose = _datasets(entry, config.dataset, config.stands_for)
    for one in entry.facts["defenses"]:
        defense.entry(one)
    if config.arch is not None:
        models.check(config.arch)
    table = options.assignments(config.settings)
    running = dict.fromkeys(
        [
            "train",
            *(part for one in entry.facts["defenses"] for part in one.split("+")),
            *entry.facts["attacks"],
            *entry.facts.get("searches", ()),
        ]  # fmt: skip
    )
    for method in table:
        if method not in running:
            raise unknown("method in --set", method, running)
    folder = Path(
        config.out or Path("robustkit-reproduction") / f"{entry.name}-{chosen.partition(':')[0]}-{config.scale}"
    )
    return Ask(
        entry, chosen, whose, config.scale, config.epochs, config.n, config.arch, table,
        None if config.data_dir is None else str(config.data_dir), config.download, config.device, config.workers,
        config.seed, folder, config.executor, config.task_cpus, config.task_gpus,
    )  # fmt: skip


def _datasets(entry: Entry, dataset: str | None, stands_for: str | None) -> tuple[str, str]:
    """Return the dataset, and the one of the paper that it stands for."""
    known: tuple[str, ...] = entry.facts["datasets"]
    if stands_for is not None and stands_for not in known:
        raise UserError(
            f"--as '{stands_for}': {entry.name} has numbers for {', '.join(known)} only; name one of these."
        )
    if dataset is None and known[0].partition(":")[0] not in data.dataset:
        # Cause: the paper's data are not read by a name of their own, only from a folder.
        raise UserError(
            f"{entry.name} has numbers for {known[0]}, which has no name here; add --dataset imagefolder:PATH, or any "
            f"other such as digits, and --as {known[0]}."
        )
    chosen = dataset or stands_for or known[0]
    data.describe(chosen)
    if stands_for is None and chosen not in known:
        raise UserError(
            f"{entry.name} has no numbers for dataset '{chosen}', only for {', '.join(known)}; for data that stands "
            f"for one of these, add --as {known[0]}."
        )
    return chosen, stands_for or chosen

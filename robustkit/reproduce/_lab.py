"""The lab of a reproduction: it trains what is missing, evaluates, and notes what is not as in the paper."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from robustkit import api, data
from robustkit.base import paths
from robustkit.base.devices import find_device
from robustkit.base.errors import UserError
from robustkit.base.files import writable, write_json
from robustkit.base.parallel import default_workers, run_all
from robustkit.base.progress import Reporter
from robustkit.base.version import __version__
from robustkit.corruptions import _plan as corrupted
from robustkit.ensembles.checkpoint import CANDIDATES, META, load_ensemble, read_meta
from robustkit.ensembles.ensemble import Ensemble
from robustkit.evaluation import executors
from robustkit.evaluation.cell import RunOptions
from robustkit.models import is_code
from robustkit.pipeline.models_under_test import outliers_of, train_spec
from robustkit.pipeline.request import check_training
from robustkit.pipeline.stored import read_study
from robustkit.pipeline.trainings import trained_jobs
from robustkit.records.cells import EnsembleRecord, Run, digest
from robustkit.records.schema import Results
from robustkit.reports._format import slug
from robustkit.reproduce import _settings
from robustkit.reproduce._ask import Ask
from robustkit.reproduce._parts import Column, Images, Recipe
from robustkit.reproduce._recipes import SHAPES
from robustkit.reproduce._settings import Difference
from robustkit.study import presets
from robustkit.study.config import TrainConfig
from robustkit.training.spec import TrainSpec

REQUEST = "request.json"  # in an ensemble's folder: what was asked for and which weights that gave
SMALL_STEPS = 2000  # of the optimiser: about two minutes for three small networks on 28x28 images on two cores
SCORED_ONLY = {"attacks": "deepfool", "suites": "transfer"}  # no cell but the clean ones: it has no transfer matrix


@dataclass(frozen=True)
class Job:
    """One training: the arguments of ``api.train``, and where it goes."""

    column: Column
    folder: Path
    arguments: dict[str, Any]


class Lab:
    """Where the ensembles of one request are trained and evaluated, below ``ask.out``."""

    def __init__(self, ask: Ask, reporter: Reporter) -> None:
        self.ask, self.reporter, self.stands_for = ask, reporter, ask.stands_for
        self.data = data.load(ask.dataset, data_dir=ask.data_dir, download=ask.download)
        self.train_images = len(self.data.split("train"))
        self.data.split("test")  # missing files are a matter of the first second, not of the first evaluation
        self.device = find_device(ask.device)
        self.out = writable(ask.out, "--out")
        self.executor = executors.chosen(ask, self.device)
        self.differences: list[Difference] = []
        self.evaluations: list[Path] = []

    def train(self, columns: Sequence[Column], recipe: Recipe) -> None:
        """Train the ensembles that are not there yet, side by side, and note what differs from the paper's training.

        A column's own recipe goes before the one that all have in common.
        """
        recipes = [column.recipe or recipe for column in columns]
        jobs = [self._job(column, own) for column, own in zip(columns, recipes, strict=True)]
        workers = self.ask.workers or default_workers(self.device)
        if self.executor is not None:  # elsewhere first: what follows finds every ensemble in the cache
            left = [job for job in jobs if not _finished(job.folder, self._asked(job), self.ask.arch)]
            trained_jobs(
                [self._recipe(job) for job in left], self.data,
                RunOptions(self.device, workers=workers, executor=self.executor), self.reporter,
            )  # fmt: skip
        run_all(self._train, jobs, workers)
        paper = {
            "dataset": self.stands_for, "image shape (C, H, W)": SHAPES[self.stands_for],
            "training images": recipe.images, "seeds": recipe.seeds,
        }  # fmt: skip
        ours = {
            "dataset": self.ask.dataset, "image shape (C, H, W)": list(self.data.shape),
            "training images": self.train_images, "seeds": 1,
        }  # fmt: skip
        found = [
            (job.column.name, _settings.of_training(job.column, own, read_meta(job.folder)["training"]))
            for job, own in zip(jobs, recipes, strict=True)
        ]
        unstated = [
            one
            for column, own in zip(columns, recipes, strict=True)
            for one in _settings.unstated([column], own, self.ask.settings)
        ]
        self._note([*_settings.differing(paper, ours), *_settings.merged(found), *unstated])

    def evaluate(
        self, part: str, columns: Sequence[Column], images: Images, *, pool: Sequence[Path] = (), **options: Any
    ) -> Results:
        """Evaluate trained ensembles, or a pool, with the options of ``api.evaluate`` into ``evaluations/PART``.

        ``preset`` is the name of a published grid and, after a colon, the attacks of it: ``adp-table2:jsma``.
        """
        grid: presets.Grid = ()
        if "preset" in options:
            name, _, only = options["preset"].partition(":")
            options["preset"] = f"{name}:{self.stands_for}:{only}"
            grid = presets.grid(options["preset"], self.stands_for)
        grid += tuple((name, options.get("settings", {}).get(name, {})) for name in _listed(options.pop("attacks", "")))
        asked = {name: given for name, given in self.ask.settings.items() if name in {row for row, _ in grid}}
        own = _flat(options.pop("settings", {}))
        folder = self.out / "evaluations" / part
        models: dict[str, Any] = (
            {"pool": list(pool)} if pool else {"checkpoint": [self.folder(column) for column in columns]}
        )
        results = cast(Results, api.evaluate(
            **models, dataset=self.ask.dataset,
            data_dir=self.ask.data_dir, attacks=None if "preset" in options else [name for name, _ in grid] or None,
            n=self.count(images), arch=self.code, settings={**own, **_flat(asked)}, device=self.ask.device,
            workers=self.ask.workers, seed=self.ask.seed, out=folder, reporter=self.reporter, **self._placed,
            **{"reference": False, "keep_examples": False, "formats": ("html",), **options},
        ))  # fmt: skip
        self.evaluations.append(folder)
        scored = {f"test images ({part})": results["dataset"]["n"]}
        paper = {f"test images ({part})": images.paper} if images.stated else {}
        self._note([*_settings.differing(paper, scored), *_settings.of_attacks(grid, asked)])
        return results

    def search(self, method: str, members: int = 3) -> Path:
        """Search once for all reproductions that ask for the same, in the cache; return the folder of the candidates.

        ``--epochs`` is how long is searched, and ``--set METHOD.NAME`` changes the method's parameters.
        """
        settings = _flat({method: self.ask.settings.get(method, {})})
        asked: dict[str, Any] = {
            "dataset": self.ask.dataset, "members": members, "seed": self.ask.seed, "settings": settings,
            "search_epochs": self.ask.epochs,
        }  # fmt: skip
        known = {"method": method, "data_sha256": self.data.split("train").sha256(), "version": __version__}
        folder = paths.cache_dir() / "searches" / digest({**asked, **known})
        if (folder / META).is_file():
            self.reporter.say(f"{method}: searched already, in {folder}")
        else:
            api.search(
                method, **asked, data_dir=self.ask.data_dir, device=self.ask.device, workers=self.ask.workers,
                out=folder, reporter=self.reporter, **self._placed,
            )  # fmt: skip
        return folder / CANDIDATES

    def clean(self, columns: Sequence[Column], images: Images) -> Results:
        """Score the test images without an attack."""
        return self.evaluate("clean", columns, images, pool=(), **SCORED_ONLY)

    def runs(self, part: str) -> list[tuple[EnsembleRecord, Run]]:
        """Return the stored runs of an evaluation that is done, each with its ensemble; ids are :meth:`name`'s."""
        store = api.load_runs(self.out / "evaluations" / part)
        study = read_study(store)
        owners = {record.key: record for record in study.ensembles}
        every = [*study.cells(), *corrupted.cells(study)]
        stored = ((owners[cell.ensemble], store.load(cell)) for cell in every)
        return [(record, run) for record, run in stored if run is not None]

    @property
    def code(self) -> str | None:
        """The architecture where it is somebody's code, which a checkpoint runs only if it is named."""
        return self.ask.arch if self.ask.arch and is_code(self.ask.arch) else None

    def ensemble(self, column: Column) -> Ensemble:
        """Return a trained ensemble."""
        return load_ensemble(self.folder(column), arch=self.code, device=self.device)

    def meta(self, column: Column) -> dict[str, Any]:
        """Return what the checkpoint of a trained ensemble says of it."""
        return read_meta(self.folder(column))

    def count(self, images: Images) -> int:
        """Return how many test images are used at most: the scale's, or --n, and never more than the paper's."""
        return min(images.paper, self.ask.n or (images.paper if self.ask.scale == "paper" else images.small))

    def name(self, column: Column) -> str:
        """Return what an ensemble is called in folders and results."""
        return slug(column.name)

    def folder(self, column: Column) -> Path:
        """Return the checkpoint of an ensemble."""
        return self.out / "ensembles" / self.name(column)

    def note(self, setting: str, paper: Any, ours: Any) -> None:
        """Note one setting of a reproduction's own, if it differs."""
        self._note(_settings.differing({setting: paper}, {setting: ours}))

    def _note(self, differences: Sequence[Difference]) -> None:
        self.differences = _settings.distinct([*self.differences, *differences])

    def _job(self, column: Column, recipe: Recipe) -> Job:
        if column.defense not in self.ask.entry.facts["defenses"]:
            raise ValueError(f"reproduction '{self.ask.entry.name}' does not declare defense '{column.defense}'")
        small = self.ask.scale == "small"
        batch = int(self.ask.settings.get("train", {}).get("batch_size", recipe.train.get("batch_size", 64)))
        few = max(2, round(SMALL_STEPS / math.ceil(self.train_images / batch)))
        mine = {m: p for m, p in self.ask.settings.items() if m in ("train", *column.defense.split("+"))}
        arguments = {
            "defense": column.defense,
            "dataset": self.ask.dataset,
            "arch": self.ask.arch or (recipe.small if small else recipe.arch),
            "members": recipe.members,
            "epochs": self.ask.epochs or (few if small else recipe.epochs),
            "fusion": column.fusion,
            "settings": {**_flat({"train": recipe.train}), **column.params, **_flat(mine)},
            "seed": self.ask.seed + recipe.seed,
        }
        return Job(column, self.folder(column), arguments)

    @property
    def _placed(self) -> dict[str, Any]:
        """Who runs pieces of work, as ``api`` takes it."""
        ask = self.ask
        gpus = {} if ask.task_gpus is None else {"task_gpus": ask.task_gpus}
        cpus = {} if ask.task_cpus == 1 else {"task_cpus": ask.task_cpus}
        return {} if self.executor is None else {"executor": ask.executor, **cpus, **gpus}

    def _asked(self, job: Job) -> dict[str, Any]:
        """Return what an ensemble's folder says it was asked for."""
        asked = {**job.arguments, "data_sha256": self.data.split("train").sha256(), "version": __version__}
        return cast(dict[str, Any], json.loads(json.dumps(asked)))

    def _recipe(self, job: Job) -> tuple[TrainSpec, data.Dataset | None]:
        """Return the recipe of a training with its outliers, as ``api.train`` makes it of the same arguments."""
        config = TrainConfig(**job.arguments, data_dir=self.ask.data_dir, device=self.ask.device, out=job.folder)
        request = check_training(config)
        load = functools.partial(data.load, data_dir=self.ask.data_dir, download=self.ask.download)
        outliers = outliers_of(request.defense, load)
        spec = train_spec(
            request.defense, self.data, request.fields, paper=request.recipe, outliers=outliers, speed=config.speed,
            seed=config.seed,
        )  # fmt: skip
        return spec, outliers

    def _train(self, job: Job) -> None:
        """Train one ensemble, unless its folder holds what the same request gave."""
        asked = self._asked(job)
        if _finished(job.folder, asked, self.ask.arch):
            self.reporter.say(f"{job.column.name}: trained already, in {job.folder}")
            return
        api.train(
            **job.arguments, data_dir=self.ask.data_dir, device=self.ask.device, out=job.folder, reporter=self.reporter
        )
        write_json(job.folder / REQUEST, {"asked": asked, "weights_sha256": read_meta(job.folder)["weights_sha256"]})


def _finished(folder: Path, asked: Mapping[str, Any], arch: str | None) -> bool:
    """Return whether a folder holds a whole ensemble that this very request gave."""
    try:
        load_ensemble(folder, arch=arch)
        known = json.loads((folder / REQUEST).read_text("utf-8"))
    except (UserError, OSError, ValueError):
        return False
    return bool(known == {"asked": asked, "weights_sha256": read_meta(folder)["weights_sha256"]})


def _flat(table: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {f"{method}.{name}": value for method, params in table.items() for name, value in params.items()}


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]

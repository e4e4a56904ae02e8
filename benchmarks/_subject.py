"""Who is attacked, on which images, on which machine."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustkit import data, load_ensemble, models
from robustkit.base.devices import find_device
from robustkit.base.errors import UserError
from robustkit.base.parallel import default_workers
from robustkit.base.progress import Reporter
from robustkit.data import Dataset, Split
from robustkit.ensembles.ensemble import Ensemble, Member
from robustkit.evaluation.cell import RunOptions, run_cell
from robustkit.pipeline import models_under_test
from robustkit.records.cells import Cell, Spec
from robustkit.records.samples import Samples

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # what the public CIFAR ResNets were trained with
FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx512_fp16", "amx_bf16", "amx_int8", "amx_tile")
PACKAGES = {
    "torch": "torch", "torchvision": "torchvision", "numpy": "numpy", "torchattacks": "torchattacks",
    "foolbox": "foolbox", "art": "adversarial-robustness-toolbox", "adv-lib": "adv-lib",
}  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """An untouched fp32 ensemble and images that it classifies correctly, on one device.

    ``clean`` are the samples of robustkit's clean cell, which an evaluation has before its first attack.
    """

    ensemble: Ensemble
    split: Split
    clean: Samples
    run_options: RunOptions

    @property
    def x(self) -> Tensor:
        """The images, float32 in [0, 1], (N, C, H, W), on the device."""
        return self.split.tensor().to(self.run_options.device)

    @property
    def y(self) -> Tensor:
        """Their labels, (N,), on the device."""
        return self.split.y.to(self.run_options.device)

    @property
    def features(self) -> int:
        """Elements of an image."""
        c, h, w = self.split.shape
        return c * h * w

    def take(self, n: int) -> Subject:
        """Return the same ensemble on the first n images."""
        return of(self.ensemble, self.split.take(n), self.run_options)


def of(ensemble: Ensemble, split: Split, run_options: RunOptions) -> Subject:
    """Return the subject with its clean cell scored."""
    return Subject(ensemble, split, run_cell(clean_cell(), ensemble, split, None, run_options).samples, run_options)


def clean_cell() -> Cell:
    """Return the cell that scores the clean images; nothing is stored, so that the names do not matter."""
    return Cell("clean", "benchmark", "benchmark")


def load(
    checkpoint: Path | None, public: Path | None, npz: Path | None, n: int, device: str, batch_size: int
) -> tuple[Subject, dict[str, Any]]:
    """Return the subject: those of the first n images that are classified correctly, and what is to be said of it.

    Without a checkpoint it is robustkit's plain ensemble on digits, from the cache or trained now.
    """
    on = find_device(device)
    dataset = data.load(f"npz:{npz}") if npz else data.load("digits")
    if checkpoint:
        ensemble, name = load_ensemble(checkpoint), checkpoint.resolve().name
    elif public:
        ensemble, name = Ensemble([_public(public)]).eval(), public.name
    elif npz:
        raise UserError(f"--data {npz} needs an ensemble; name one with --checkpoint or --public.")
    else:
        ensemble, name = _plain(dataset, on), "plain ensemble on digits"
    ensemble = ensemble.eval().to(on).requires_grad_(False)  # else some peers compute the weights' gradients as well
    first = (dataset.everything() if npz else dataset.split("test")).take(n)
    run_options = RunOptions(on, batch_size, workers=default_workers(on))
    try:
        clean = of(ensemble, first, run_options).clean
    except RuntimeError as error:
        shape = " ".join(str(error).split())[:150]
        raise UserError(
            f"'{name}' does not take images of shape {first.shape}; give others by --data ({shape})."
        ) from None
    right = torch.from_numpy(clean.prediction == clean.y)
    if not bool(right.any()):
        raise UserError(f"'{name}' classifies none of the {len(first)} images correctly; give others by --data.")
    _, x, y = first.batch(right)
    subject = of(ensemble, Split(x, y), run_options)
    facts = {
        "ensemble": name,
        "members": len(ensemble),
        "parameters": sum(p.numel() for p in ensemble.parameters()),
        "weights_sha256": ensemble.fingerprint(),
        "data": dataset.name,
        "data_sha256": subject.split.sha256(),
        "shape": list(first.shape),
        "asked": len(first),
        "images": len(x),
        "clean_accuracy": len(x) / len(first),
    }
    return subject, facts


def _public(path: Path) -> Member:
    """Read a public CIFAR-10 ResNet-20, saved from DataParallel."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    except (OSError, KeyError) as error:
        raise UserError(f"'{path}' is no checkpoint with a state_dict ({error}).") from None
    network = models.build("resnet20", 3, 10)
    network.load_state_dict({key.removeprefix("module."): value for key, value in state.items()})
    return Member(network, *IMAGENET)


def _plain(dataset: Dataset, device: torch.device) -> Ensemble:
    spec = models_under_test.train_spec(Spec("defense", "baseline", {}), dataset, {})
    return models_under_test.trained(spec, dataset, device, Reporter())[1]


def machine(device: torch.device) -> dict[str, Any]:
    """Return what a duration depends on: processor, its instruction sets, cores, threads, memory, accelerator."""
    lines = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    fields = dict(
        (key.strip(), value.strip()) for key, _, value in (line.partition(":") for line in lines.splitlines()) if value
    )
    flags = set(fields.get("flags", "").split())
    return {
        "cpu": fields.get("model name", platform.processor() or platform.machine()),
        "flags": {flag: flag in flags for flag in FLAGS},
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "load_at_start": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }


def versions() -> dict[str, str | None]:
    """Return the versions of what takes part; None where it is not installed."""
    from robustkit.base.version import __version__

    found: dict[str, str | None] = {"robustkit": __version__, "python": platform.python_version()}
    for name, package in PACKAGES.items():
        try:
            found[name] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found

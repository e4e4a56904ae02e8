"""A corrupted copy of a dataset, in the layout of CIFAR-10-C or of ImageNet-C."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from robustkit.base.configuration import takes
from robustkit.base.devices import find_device
from robustkit.base.errors import UserError
from robustkit.base.files import writable, write_atomic
from robustkit.base.progress import Advance, Reporter
from robustkit.corruptions._plan import ask, chosen
from robustkit.corruptions._published import LABELS
from robustkit.corruptions._run import batch_of, make
from robustkit.data import Split
from robustkit.records.cells import Spec
from robustkit.study.config import CorruptConfig
from robustkit.study.evaluation_data import evaluation_data, too_many


@takes(CorruptConfig)
def corrupt(config: CorruptConfig) -> list[Path]:
    """Write the test images of a dataset under every corruption and severity of some suites.

    ``npy``: ``NAME.npy``, uint8 (S N, H, W, C), severity after severity, and ``labels.npy``, int64 (S N,), S the number
    of severities. ``folders``: ``NAME/SEVERITY/CLASS/ID.png``. What is there already stays: an interrupted copy
    goes on; delete OUT for another seed or other images. The same image, seed and severity give the same pixels as an
    evaluation. Of a dataset that has no division of its own, everything is written.

    Returns
    -------
    list of Path
        The array or the folder of each corruption.

    Raises
    ------
    UserError
        On bad input, before anything is written.
    """
    layout = config.layout or ("folders" if config.dataset.startswith("imagefolder:") else "npy")
    names, on = chosen(config.suites), find_device(config.device)
    data = evaluation_data(
        config.dataset, [{}], data_dir=config.data_dir, download=config.download, image_size=config.image_size,
        n=config.n,
    )  # fmt: skip
    loaded, split, reporter = data.dataset, data.split, config.reporter or Reporter()
    if said := too_many(config.n, split):
        reporter.say(said)
    groups = _grouped(ask(names, tuple(loaded.shape), config.frost_dir))
    folder = writable(Path(config.out), "OUT")
    made = []
    with reporter.task("corrupting", len(split) * sum(map(len, groups.values()))) as advance:
        for where, levels in groups.items():
            write = _arrays if layout == "npy" else _folders
            made.append(write(folder, where, levels, split, loaded.classes, config.seed, on, advance))
    if layout == "npy":
        labels = np.tile(split.y.numpy(), len(next(iter(groups.values()))))
        write_atomic(folder / LABELS, lambda stream: np.save(stream, labels))
    return made


def _grouped(specs: Sequence[Spec]) -> dict[str, list[Spec]]:
    """Return the severities of each corruption; a :class:`UserError` where two suites differ in what a name means."""
    groups: dict[str, list[Spec]] = {}
    for spec in specs:
        group = groups.setdefault(spec.name, [])
        if not any(spec.params == other.params for other in group):
            group.append(spec)
    severities = {name: [spec.params["severity"] for spec in group] for name, group in groups.items()}
    odd = next((n for n, s in severities.items() if len(set(s)) < len(s) or s != next(iter(severities.values()))), None)
    if odd is not None:
        kinds = " and ".join(dict.fromkeys(spec.kind for spec in specs))
        raise UserError(f"{kinds} differ in constants or severities of {odd}; write each suite to a folder of its own.")
    return groups


def _levels(
    spec: Spec, split: Split, rows: Tensor, seed: int, device: torch.device
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return some corrupted images as (B, H, W, C), as an evaluation would make them."""
    ids, x, _ = split.batch(rows)
    made = make(spec, seed, ids, x, device)
    return (made * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def _arrays(
    folder: Path, name: str, specs: list[Spec], split: Split, classes: tuple[str, ...], seed: int,
    device: torch.device, advance: Advance,
) -> Path:  # fmt: skip
    """Write one array, whole or not at all."""
    path = folder / f"{name}.npy"
    total = len(specs) * len(split)
    if path.exists():
        advance(total)
        return path
    channels, height, width = split.shape
    part = path.with_suffix(".part")
    array = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=(total, height, width, channels))
    for at, spec in enumerate(specs):
        for rows in torch.split(torch.arange(len(split)), batch_of(split.shape, device)):
            array[rows.numpy() + at * len(split)] = _levels(spec, split, rows, seed, device)
            advance(len(rows), name)
    array.flush()
    del array  # Windows renames no file that is mapped
    part.replace(path)
    return path


def _folders(
    folder: Path, name: str, specs: list[Spec], split: Split, classes: tuple[str, ...], seed: int,
    device: torch.device, advance: Advance,
) -> Path:  # fmt: skip
    """Write a folder for each severity, whole or not at all."""
    digits = len(str(int(split.ids.max())))
    for spec in specs:
        target = folder / name / str(spec.params["severity"])
        if target.exists():
            advance(len(split))
            continue
        part = target.with_name(f".{target.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        for rows in torch.split(torch.arange(len(split)), batch_of(split.shape, device)):
            images = _levels(spec, split, rows, seed, device)
            for image, row in zip(images, rows.tolist(), strict=True):
                file = part / classes[int(split.y[row])] / f"{int(split.ids[row]):0{digits}d}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                PIL.Image.fromarray(image.squeeze()).save(file)
            advance(len(rows), name)
        part.replace(target)
    return folder / name

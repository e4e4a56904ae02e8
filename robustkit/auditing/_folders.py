"""A folder of files: which of them are models, which belong together, what else lies there."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from robustkit.auditing import _foreign, _formats, _shards
from robustkit.auditing._files import NoNetworkError, opened, reason
from robustkit.auditing._limits import DISTRIBUTED, FOLDER_FILES, clean, refuse
from robustkit.auditing._model_in_file import ModelInFile
from robustkit.ensembles.ensemble import fingerprint

SUFFIXES = frozenset(
    {".pt", ".pth", ".th", ".ckpt", ".bin", ".safetensors", ".pt2", ".onnx", ".pkl", ".pickle", ".model", ".jit", ".ts"}
)  # fmt: skip


AUXILIARY = re.compile(
    r"(?:training_args|optim(?:izer)?|(?:lr_)?scheduler|rng_state|random_states|(?:grad_)?scaler|sampler)(?:[_.-].*)?"
)  # of a trainer, beside the weights
CHECKPOINT = ".metadata"  # of torch.distributed.checkpoint
Reader = Callable[[Path], list[ModelInFile]]


def read_folder(folder: Path, read: Reader) -> list[ModelInFile]:
    """Read the model files of a folder, and robustkit's checkpoints in it; what is no model is skipped and noted.

    Files of one network are read together; a trainer's and an optimiser's are skipped, and so is a second file with the
    same weights in another format.
    """
    try:
        entries = sorted(os.listdir(folder))
    except OSError as error:
        refuse(folder, reason(folder, error))
    if len(entries) > FOLDER_FILES:
        refuse(folder, f"holds {len(entries)} files, {FOLDER_FILES} at most are looked at", "name the files")
    if any(entry.endswith(".distcp") for entry in entries):
        refuse(folder, *DISTRIBUTED)
    groups = _shards.sharded(folder, entries)
    found = [one for group in groups for one in _shards.read_sharded(folder, group)]
    taken = {file for group in groups for file in (*group.files, group.index)}
    skipped: list[str] = []
    for entry in (entry for entry in entries if entry not in taken):
        path = folder / entry
        folder_inside = os.path.isdir(path)  # Path.is_dir would raise where access is denied
        if folder_inside and not _formats.is_robustkit(path):
            skipped.append(f"{entry}/")
        elif not folder_inside and (AUXILIARY.fullmatch(entry.lower()) or not _is_model(path)):
            skipped.append(entry)
        else:
            try:
                found += read(path)
            except NoNetworkError:
                skipped.append(entry)
    if not found:
        if foreign := _foreign.of_folder(folder):
            refuse(folder, f"holds {foreign.what}", foreign.remedy)
        refuse(folder, "is a folder without a model file")
    found = _once(found)
    if not skipped:
        return found
    shown = ", ".join(clean(name, 40) for name in skipped[:5]) + (", ..." if len(skipped) > 5 else "")
    note = f"{len(skipped)} of the folder's entries are no models and were skipped ({shown})"
    return [replace(one, notes=(*one.notes, note)) for one in found]


def _once(found: list[ModelInFile]) -> list[ModelInFile]:
    """Leave out what has the weights of another entry in another format: a network that was saved twice."""
    kept: dict[str, ModelInFile] = {}
    for index, one in enumerate(found):
        key = fingerprint(one.state) if one.state else str(index)
        first = kept.get(key)
        if first is None or first.format == one.format:
            kept[key if first is None else f"{key} {index}"] = one
        else:
            note = f"{clean(Path(one.path).name)} holds the same weights and is left out"
            kept[key] = replace(first, notes=(*first.notes, note))
    return list(kept.values())


def _is_model(path: Path) -> bool:
    """Return whether to read a file of a folder: its content or its name claims to be a model.

    A name only adds to what is read, and so to what is refused: a cut-off ``model.pth`` is not skipped in silence.
    """
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        regular = stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False
    if not regular or os.stat(path).st_size == 0:
        return False
    with opened(path) as (stream, size):
        return _formats.sniff(stream, size) in _formats.MODELS

"""Read somebody else's model file, without running code from it.

The format is decided by the file's content, never by its name. What each format can do to the reader, and what is done
about it (checked with torch 2.15; 2.6 behaves alike unless said):

* **torch.save** (zip and legacy): a pickle runs any code. It is read as data (:mod:`._pickle`): nothing is imported or
  called, so this is stricter than ``torch.load(weights_only=True)``, whose result it equals on plain state dicts.
* **safetensors**: a JSON header and raw bytes; nothing can run.
* **TorchScript**: ``torch.jit.load`` runs ``__setstate__`` methods from the file while loading, and TorchScript may
  call ``aten::save`` and ``aten::from_file``, which create and overwrite files (a test shows it). Its parser and
  unpickler are C++ that was not written against hostile input. So it is loaded only with ``trust_pickle``; without,
  the weights are read from its attribute tree, as data, and need an architecture like any state dict.
* **torch.export** (``.pt2``): ``torch.export.load`` calls ``torch.load(weights_only=False)`` on weights that say so and
  on the sample inputs (where ``weights_only=True`` failed), ``pickle.loads`` on constants, sympy's ``eval`` on shape
  expressions, and resolves any ``torch.*`` name as an operator. Loaded only with ``trust_pickle``; without, the weights
  are read from its JSON and raw records.
* **ONNX**: protocol buffers run nothing, but torch.fx writes Python source with the graph's names in it; see
  :mod:`._onnx`, which renames them all.

Bounds hold before allocation: see :mod:`._limits`. A flipped bit in raw weights is noticed in zip archives (CRC-32)
and not in legacy files, safetensors and ONNX, which have no checksum; the SHA-256 of every file is reported instead.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from robustkit.auditing import _formats, _shards
from robustkit.auditing._files import guarded, opened, reason, sha256
from robustkit.auditing._folders import CHECKPOINT, read_folder
from robustkit.auditing._limits import DISTRIBUTED, clean, refuse
from robustkit.auditing._model_in_file import ModelInFile as ModelInFile
from robustkit.auditing._model_in_file import network_of
from robustkit.auditing._unwrap import float32
from robustkit.base.errors import UserError
from robustkit.ensembles.checkpoint import WEIGHTS


def read(
    path: Path | str | Sequence[Path | str], *, trust_pickle: bool = False, arch: str | None = None
) -> list[ModelInFile]:
    """Read every network in a file, in the files of a folder, or in several of them.

    Parameters
    ----------
    path : path or sequence of paths
        A folder stands for all its model files, sorted by name; a robustkit checkpoint folder for its members.
    trust_pickle : bool
        Run the code in a pickle, TorchScript or ``.pt2`` file, with all that it may do; the result says so.
    arch : str or None
        ``module:factory``: consent to run the code that a robustkit checkpoint names as its architecture.

    Raises
    ------
    UserError
        One sentence that names the file and says what would be accepted.
    """
    paths = [path] if isinstance(path, str | os.PathLike) else list(path)
    if not paths:
        raise UserError("no model file was named; name a file or a folder of files.")
    found: dict[tuple[str, int], ModelInFile] = {}
    for path_index, one in enumerate(paths):
        for index, network in enumerate(_read_any(Path(one), trust_pickle, arch)):
            sharded = _shards.is_part(Path(network.path).name)  # however many of its files are named, it is one network
            found.setdefault((network.path if sharded else str(path_index), index), network)
    return _unique(found.values())


def _read_any(path: Path, trust_pickle: bool, arch: str | None) -> list[ModelInFile]:
    try:
        folder = stat.S_ISDIR(os.stat(path).st_mode)
    except (OSError, ValueError) as error:
        refuse(path, reason(path, error))
    if folder and not _formats.is_robustkit(path):
        return read_folder(path, lambda one: _read_any(one, trust_pickle, arch))
    if folder or _formats.is_robustkit(path.parent, path.name):
        return guarded(path, lambda: _read_robustkit(path, arch))
    if path.suffix == ".distcp" or (path.name == CHECKPOINT and any(path.parent.glob("*.distcp"))):
        refuse(path, *DISTRIBUTED)
    if _shards.is_part(path.name):
        return _read_sharded(path)
    return _read_file(path, trust_pickle)


def _read_sharded(path: Path) -> list[ModelInFile]:
    """Read the network that a file is an index or a part of."""
    every = _shards.sharded(path.parent, sorted(os.listdir(path.parent)))
    return _shards.read_sharded(
        path.parent, next(one for one in every if path.name == one.index or path.name in one.files)
    )


def _read_file(path: Path, trust_pickle: bool) -> list[ModelInFile]:
    with opened(path) as (stream, size):

        def work() -> list[ModelInFile]:
            digest = sha256(stream)
            content = _formats.load(stream, size, trust_pickle=trust_pickle, path=path)
            return [network_of(path, content, part, digest) for part in content.parts]

        return guarded(path, work)


def _read_robustkit(path: Path, arch: str | None) -> list[ModelInFile]:
    folder = path if os.path.isdir(path) else path.parent
    members, archs, notes = _formats.robustkit_members(folder, arch)
    with opened(folder / WEIGHTS) as (stream, _):
        digest = sha256(stream)
    found = []
    for index, member in enumerate(members):
        float32(member.state_dict())
        where = f"members.{index}"
        name = f"{clean(folder.resolve().name)}-model_{index}"
        says = {"arch": archs[index]}
        found.append(ModelInFile(name, "robustkit", where, None, member, notes, digest, says=says, path=str(folder)))
    return found


def _unique(found: Iterable[ModelInFile]) -> list[ModelInFile]:
    counts: dict[str, int] = {}
    named = []
    for one in found:
        counts[one.name] = counts.get(one.name, 0) + 1
        named.append(replace(one, name=f"{one.name}-{counts[one.name]}") if counts[one.name] > 1 else one)
    return named

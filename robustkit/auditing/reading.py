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

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from torch import Tensor, nn

from robustkit.auditing import _foreign, _formats
from robustkit.auditing._limits import FILE_BYTES, FOLDER_FILES, GIB, Damaged, clean, refuse
from robustkit.auditing._unwrap import Part, float32
from robustkit.base.errors import UserError
from robustkit.ensembles.checkpoint import WEIGHTS

SUFFIXES = frozenset(
    {".pt", ".pth", ".th", ".ckpt", ".bin", ".safetensors", ".pt2", ".onnx", ".pkl", ".pickle", ".model", ".jit", ".ts"}
)  # fmt: skip


@dataclass(frozen=True)
class ModelInFile:
    """One network in a file.

    Attributes
    ----------
    name : str
        Unique in what one call returns: the file's stem, with ``-model_I`` behind it where a file holds several.
    format : str
        ``torch state dict``, ``Lightning checkpoint``, ``safetensors``, ``TorchScript``, ``torch.export``, ``ONNX``,
        ``pickled module`` or ``robustkit``.
    where : str
        Where in the file, and the prefix that was stripped from its keys.
    state : mapping or None
        Weights by name, floats as float32, all finite.
    module : nn.Module or None
        A network that needs no architecture, in the mode in which it was saved.
    notes : tuple of str
        What was noticed and assumed, a sentence each.
    sha256 : str
        Of the file, hex.
    says : mapping
        Short scalars beside the weights (``arch``, ``epoch``); claims of the file, not facts.
    """

    name: str
    format: str
    where: str
    state: Mapping[str, Tensor] | None
    module: nn.Module | None
    notes: tuple[str, ...]
    sha256: str
    says: Mapping[str, str | int | float] = field(default_factory=dict)
    path: str = ""


def read(path: Path | str | Sequence[Path | str], *, trust_pickle: bool = False) -> list[ModelInFile]:
    """Read every network in a file, in the files of a folder, or in several of them.

    Parameters
    ----------
    path : path or sequence of paths
        A folder stands for all its model files, sorted by name; a robustkit checkpoint folder for its members.
    trust_pickle : bool
        Run the code in a pickle, TorchScript or ``.pt2`` file, with all that it may do; the result says so.

    Raises
    ------
    UserError
        One sentence that names the file and says what would be accepted.
    """
    paths = [path] if isinstance(path, str | os.PathLike) else list(path)
    if not paths:
        raise UserError("no model file was named; name a file or a folder of files.")
    return _unique([found for one in paths for found in _read_any(Path(one), trust_pickle)])


def _read_any(path: Path, trust_pickle: bool) -> list[ModelInFile]:
    try:
        folder = stat.S_ISDIR(os.stat(path).st_mode)
    except (OSError, ValueError) as error:
        refuse(path, _reason(path, error))
    if folder and not _formats.is_robustkit(path):
        return _read_folder(path, trust_pickle)
    if folder or _formats.is_robustkit(path.parent, path.name):
        return _guarded(path, lambda: _read_robustkit(path))
    return _read_file(path, trust_pickle)


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "is a link to nothing" if path.is_symlink() else "does not exist"
    if isinstance(error, PermissionError):
        return "may not be read by this user"
    return f"cannot be opened ({clean(getattr(error, 'strerror', None) or error)})"


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file of bounded size; a FIFO or device neither blocks nor is read."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        refuse(path, _reason(path, error))
    with os.fdopen(handle, "rb") as stream:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            refuse(path, "is no regular file")
        if facts.st_size == 0:
            refuse(path, "is empty")
        if facts.st_size > FILE_BYTES:
            refuse(path, f"has {facts.st_size / GIB:.1f} GiB, {FILE_BYTES // GIB} at most are read")
        yield stream, facts.st_size


def _guarded(path: Path, work: Callable[[], list[ModelInFile]]) -> list[ModelInFile]:
    """Turn whatever a hostile file makes a parser raise into one sentence."""
    try:
        return work()
    except UserError as error:
        raise UserError(clean(" ".join(str(error).split()), 1000)) from None
    except Damaged as error:
        refuse(path, str(error), error.remedy)
    except MemoryError:
        refuse(path, "asks for more memory than there is")
    except Exception as error:  # the boundary: nothing that a file provokes may end in a traceback
        refuse(path, f"cannot be read ({type(error).__name__}: {clean(error, 200)})")


def _read_file(path: Path, trust_pickle: bool) -> list[ModelInFile]:
    with _opened(path) as (stream, size):

        def work() -> list[ModelInFile]:
            digest = _sha256(stream)
            content = _formats.load(stream, size, trust_pickle=trust_pickle, path=path)
            return [_found(path, content, part, digest) for part in content.parts]

        return _guarded(path, work)


def _found(path: Path, content: _formats.Content, part: Part, digest: str) -> ModelInFile:
    notes = [*content.notes, *part.notes]
    state: Mapping[str, Tensor] | None = None
    if part.state is not None:
        state, converted = float32(content.tensors(part.state))
        notes += converted
    elif part.module is not None and (own := _own(part.module)):
        _, converted = float32(own)
        if converted:
            part.module.float()
            notes += converted
    name = path.stem + (f"-model_{part.index}" if part.index is not None else "")
    where = part.where or "top level"
    return ModelInFile(
        clean(name), content.format, clean(where), state, part.module, tuple(notes), digest, content.says, str(path)
    )


def _own(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _read_robustkit(path: Path) -> list[ModelInFile]:
    folder = path if os.path.isdir(path) else path.parent
    members, notes = _formats.robustkit_members(folder)
    with _opened(folder / WEIGHTS) as (stream, _):
        digest = _sha256(stream)
    found = []
    for index, member in enumerate(members):
        float32(member.state_dict())
        where = f"members.{index}"
        name = f"{clean(folder.resolve().name)}-model_{index}"
        found.append(ModelInFile(name, "robustkit", where, None, member, notes, digest, path=str(folder)))
    return found


def _read_folder(folder: Path, trust_pickle: bool) -> list[ModelInFile]:
    """Read the model files of a folder, and robustkit's checkpoints in it; what is no model is skipped and noted."""
    try:
        entries = sorted(os.listdir(folder))
    except OSError as error:
        refuse(folder, _reason(folder, error))
    if len(entries) > FOLDER_FILES:
        refuse(folder, f"holds {len(entries)} files, {FOLDER_FILES} at most are looked at", "name the files")
    found: list[ModelInFile] = []
    skipped: list[str] = []
    for entry in entries:
        path = folder / entry
        folder_inside = os.path.isdir(path)  # Path.is_dir would raise where access is denied
        if folder_inside and not _formats.is_robustkit(path):
            skipped.append(f"{entry}/")
        elif folder_inside or _is_model(path):
            found += _read_any(path, trust_pickle)
        else:
            skipped.append(entry)
    if not found:
        if foreign := _foreign.of_folder(folder):
            refuse(folder, f"holds {foreign.what}", foreign.remedy)
        refuse(folder, "is a folder without a model file")
    if not skipped:
        return found
    shown = ", ".join(clean(name, 40) for name in skipped[:5]) + (", ..." if len(skipped) > 5 else "")
    note = f"{len(skipped)} of the folder's entries are no models and were skipped ({shown})"
    return [replace(one, notes=(*one.notes, note)) for one in found]


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
    with _opened(path) as (stream, size):
        return _formats.sniff(stream, size) in _formats.MODELS


def _sha256(stream: BinaryIO) -> str:
    sha = hashlib.sha256()
    stream.seek(0)
    while block := stream.read(1 << 20):
        sha.update(block)
    stream.seek(0)
    return sha.hexdigest()


def _unique(found: Iterable[ModelInFile]) -> list[ModelInFile]:
    counts: dict[str, int] = {}
    named = []
    for one in found:
        counts[one.name] = counts.get(one.name, 0) + 1
        named.append(replace(one, name=f"{one.name}-{counts[one.name]}") if counts[one.name] > 1 else one)
    return named

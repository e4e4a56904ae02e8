"""One network in several files (``model-00001-of-00003.safetensors``), with or without an index of what lies where."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from robustkit.auditing import _formats
from robustkit.auditing._files import guarded, opened, sha256
from robustkit.auditing._limits import FILE_BYTES, GIB, JSON_BYTES, Damaged, clean, parse_json
from robustkit.auditing._model_in_file import ModelInFile, network_of
from robustkit.auditing._unwrap import parts

INDEX = ".index.json"
SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.(safetensors|bin|pt|pth)")


@dataclass(frozen=True)
class Sharded:
    """A network's files in a folder, in order, and the index that lists them, or ""."""

    name: str
    files: tuple[str, ...]
    index: str = ""


def sharded(folder: Path, entries: Sequence[str]) -> list[Sharded]:
    """Return the networks of a folder that lie in several files each."""
    found = [Sharded(entry.partition(".")[0], (), entry) for entry in entries if entry.endswith(INDEX)]
    groups: dict[tuple[str, str, str], list[str]] = {}
    for entry in entries:
        if match := SHARD.fullmatch(entry):
            groups.setdefault((match[1], match[3], match[4]), []).append(entry)
    bare = [(name, int(count), files) for (name, count, _), files in groups.items()]
    found = [guarded(folder / one.index, lambda one=one: _indexed(folder, one)) for one in found]  # type: ignore[misc]
    listed = {file for one in found for file in one.files}
    for name, count, files in bare:
        if not set(files) <= listed:
            guarded(folder / files[0], lambda c=count, f=files: _complete(c, f))  # type: ignore[misc]
            found.append(Sharded(name, tuple(files)))
    return found


def is_part(name: str) -> bool:
    """Return whether a file's name says that it is one of several, or their index."""
    match = SHARD.fullmatch(name)
    return name.endswith(INDEX) or (match is not None and int(match[3]) > 1)


def _complete(count: int, files: Sequence[str]) -> None:
    if len(files) != count:
        raise Damaged(f"is one of {count} files of a network, of which {len(files)} are there", "fetch the others, too")


def _indexed(folder: Path, one: Sharded) -> Sharded:
    with opened(folder / one.index) as (stream, size):
        if size > JSON_BYTES:
            raise Damaged(f"has more than {JSON_BYTES} bytes")
        table = parse_json(stream.read())
    places = table.get("weight_map") if isinstance(table, dict) else None
    if not isinstance(places, dict) or not places or not all(isinstance(file, str) for file in places.values()):
        raise Damaged("lists no weights and their files")
    files = sorted(set(places.values()))
    for file in files:
        if os.path.basename(file) != file or file in ("", ".", ".."):
            raise Damaged(f"names the file '{clean(file)}', which would not lie beside it")
        if not os.path.isfile(folder / file):
            raise Damaged(f"names the file '{clean(file)}', which is not there", "fetch it, too")
    return Sharded(one.name, tuple(files), one.index)


def read_sharded(folder: Path, one: Sharded) -> list[ModelInFile]:
    """Return the network, or several, of files that belong together; what one file lacks is refused in one sentence."""
    path = folder / (one.index or one.files[0])
    return guarded(path, lambda: _read(folder, one, path))


def _read(folder: Path, one: Sharded, path: Path) -> list[ModelInFile]:
    state: dict[str, Tensor] = {}
    whole, digests = 0, hashlib.sha256()
    for file in one.files:
        with opened(folder / file) as (stream, size):
            whole += size
            if whole > FILE_BYTES:
                raise Damaged(f"has more than {FILE_BYTES // GIB} GiB with the other files, the most that is read")
            digests.update(sha256(stream).encode())
            for name, value in _formats.tensors(stream, size).items():
                if name in state:
                    raise Damaged(f"names '{clean(name)}' in two files")
                state[name] = value
    note = f"the network lies in {len(one.files)} files ({one.index or one.files[0]}); sha256 is that of their sha256"
    content = _formats.of_tensors(parts(state), note)
    found = [network_of(path, content, part, digests.hexdigest()) for part in content.parts]
    return [replace(network, name=clean(one.name) + network.name.removeprefix(path.stem)) for network in found]

"""One file's bytes to what they hold: which format, which networks, how their tensors are made."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor, nn

from robustkit.auditing import _foreign, _onnx, _pickle, _torch_zip, _trusted
from robustkit.auditing._batches import InBatches
from robustkit.auditing._limits import JSON_BYTES, PICKLE_BYTES, STATE_OVER_FILE, Damaged, clean
from robustkit.auditing._peel import Part, first
from robustkit.auditing._safetensors import SafeTensors, is_safetensors
from robustkit.auditing._tensors import TensorRef, check_all, materialise
from robustkit.auditing._torch_legacy import Legacy, is_legacy
from robustkit.auditing._unwrap import parts, says
from robustkit.base.installing import install_command
from robustkit.ensembles.checkpoint import META, WEIGHTS, load_ensemble, read_meta

MOST_VALUES = 64  # of a list or mapping among the parameters of an architecture
MODELS = frozenset({"zip", "legacy", "pickle", "safetensors", "onnx"})
FOREIGN = {
    b"\x1f\x8b": "is gzip-compressed",
    b"BZh": "is bzip2-compressed",
    b"\xfd7zXZ": "is xz-compressed",
    b"\x28\xb5\x2f\xfd": "is zstd-compressed",
    b"\x93NUMPY": "is a numpy array",
    b"GGUF": "is a GGUF language model",
}
TEXTS = {  # what a file begins with, in small letters and without what is blank before
    (b"<!doctype html", b"<html", b"<head", b"<?xml"): (
        "is a web page or XML (a download that failed, or of the page instead of the file)",
        "download the file itself",
    ),
    (b"version https://git-lfs",): (
        "is a git-lfs pointer, which stands for the file", "fetch the file with `git lfs pull`, or download it",
    ),
    (b'{"weight_map"',): ("is the index of a network in several files", "name the index, or their folder"),
}  # fmt: skip


@dataclass
class Content:
    """What a file holds: its format, its networks, and how declared tensors become tensors."""

    format: str
    parts: list[Part]
    tensors: Callable[[Mapping[str, TensorRef | Tensor]], dict[str, Tensor]]
    notes: list[str] = field(default_factory=list)
    says: Mapping[str, str | int | float] = field(default_factory=dict)


def sniff(stream: BinaryIO, size: int) -> str:
    """Return the container format by content: zip, legacy, pickle, tar, safetensors, onnx, or "" for none."""
    stream.seek(0)
    head = stream.read(4096)
    stream.seek(0)
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "zip"
    if is_legacy(head):
        return "legacy"
    if head[:1] == b"\x80" and 2 <= head[1] <= 5 if len(head) > 1 else False:
        return "pickle"
    if head[257:262] == b"ustar":
        return "tar"
    if is_safetensors(head, size):
        return "safetensors"
    return "onnx" if _onnx.is_onnx(head, size) and _foreign.of_file(stream, size) is None else ""


def load(stream: BinaryIO, size: int, *, trust_pickle: bool, path: Path | None = None) -> Content:
    """Read an open file, which lies at ``path``; :class:`Damaged` says why not."""
    form = sniff(stream, size)
    if form == "safetensors":
        file = SafeTensors(stream, size)
        content = _checked("safetensors", file.state, file.size, file.read, size)
        if file.tied:
            content.notes.append(f"{len(file.tied)} tied weights have further names in the header ({first(file.tied)})")
        return content
    if form == "onnx":
        return _load_onnx(stream)
    if form == "tar":
        # Cause: files of that age, and folders packed with tar, begin alike.
        raise Damaged("is a tar archive (PyTorch's before 0.1.10, or a packed folder)", "unpack or save it again")
    if form not in ("zip", "legacy", "pickle"):
        if foreign := _foreign.of_file(stream, size, path):
            raise foreign.refusal()
        stream.seek(0)
        text = stream.read(512).lstrip(b"\xef\xbb\xbf \t\r\n")
        head, begins = text[:8], text.lower()
        for known, why in TEXTS.items():
            if begins.startswith(known):
                raise Damaged(*why)
        raise Damaged(next((why for magic, why in FOREIGN.items() if head.startswith(magic)), "is no model file"))
    try:
        return _load_torch(form, stream, size, trust_pickle)
    except _pickle.NeedsCode as need:
        if not trust_pickle:
            # Cause: the whole network was saved (torch.save(model)) and not its state dict, or objects of the training
            # beside it; to make them again their classes have to be imported and called, which may do anything.
            raise Damaged(
                f"holds a pickle that needs code to be run ('{clean(need.name)}')",
                "if you trust its author, have it run with --trust-pickle (in Python: trust_pickle=True), "
                "otherwise ask for a plain state dict or safetensors",
            ) from None
    tree = _trusted.unpickle(stream)
    note = "PICKLE TRUSTED: the file's code was run with this user's rights (--trust-pickle)"
    content = Content("torch state dict", parts(tree), lambda state: materialise(state, _nowhere), [note], says(tree))
    content.format = "pickled module" if any(part.module is not None for part in content.parts) else content.format
    return content


def _load_torch(form: str, stream: BinaryIO, size: int, trust_pickle: bool) -> Content:
    if form == "legacy":
        file = Legacy(stream, size)
        return _checked(_kind(file.tree), file.tree, file.size, file.read, size)
    if form == "pickle":
        stream.seek(0)
        tree = _pickle.parse(io.BytesIO(stream.read(min(size, PICKLE_BYTES))))
        parts(tree)
        # Cause: pickle.dump wrote it, which keeps no tensors apart from the objects.
        raise Damaged("is a pickle that torch.save did not write", "save the state dict with torch.save")
    archive = _torch_zip.Archive(stream, size)
    kind = _torch_zip.kind(archive)
    if not kind:
        foreign = _foreign.of_archive(archive.names())
        # Cause: a zip archive of something else: a packed folder, a document, a repository.
        raise foreign.refusal() if foreign else Damaged("is a zip archive without a model in it")
    archive.check_byte_order()
    if kind == "torch":
        tree = archive.tree("data.pkl")
        return _checked(
            _kind(tree), tree, lambda k: archive.size(f"data/{k}"), lambda k: archive.read(f"data/{k}"), size
        )
    if trust_pickle:
        load: Callable[[BinaryIO], nn.Module] = _trusted.torchscript if kind == "TorchScript" else _trusted.exported
        note = f"{kind.upper()} TRUSTED: code from the file was run (--trust-pickle)"
        program = load(stream)
        notes = [note, *(program.notes() if isinstance(program, InBatches) else ())]
        return Content(kind, [Part("program", None, program)], _as_they_are, notes)
    note = f"{kind} programs are run only with --trust-pickle; the weights alone were read, and need an architecture"
    if kind == "TorchScript":
        script = _torch_zip.script_state(archive)
        content = _checked(kind, script, lambda k: archive.size(f"data/{k}"), lambda k: archive.read(f"data/{k}"), size)
    elif "serialized_state_dict.pt" in archive:  # torch 2.5 to 2.7: torch.save within the zip
        inner = io.BytesIO(archive.read("serialized_state_dict.pt"))
        content = _load_torch("zip", inner, len(inner.getvalue()), False)
        content.format = kind
    else:
        content = _checked(kind, _torch_zip.export_state(archive), archive.size, archive.read, size)
    content.notes.append(note)
    return content


def _checked(kind: str, tree: Any, nbytes: Callable[[str], int], read: Callable[[str], bytes], size: int) -> Content:
    found = parts(tree)
    left = STATE_OVER_FILE * size + (1 << 16)
    every = [one for part in found for one in (part, *part.others)]
    together = {
        (f"{i}: {k}" if i else k): v for i, p in enumerate(every) for k, v in {**(p.state or {}), **p.aside}.items()
    }
    check_all(together, nbytes, left)
    return Content(kind, found, lambda state: materialise(state, read), [], says(tree))


def _kind(tree: Any) -> str:
    lightning = isinstance(tree, dict) and "pytorch-lightning_version" in tree
    return "Lightning checkpoint" if lightning else "torch state dict"


def _load_onnx(stream: BinaryIO) -> Content:
    stream.seek(0)
    try:
        network, notes = _onnx.load(stream.read())
    except ImportError:
        # Cause: ONNX is converted by onnx2torch, which is not installed.
        raise Damaged("is an ONNX file", f"reading it needs an extra: {install_command('onnx')}") from None
    return Content("ONNX", [Part("graph", None, network)], _as_they_are, ["converted by onnx2torch", *notes])


def tensors(stream: BinaryIO, size: int) -> dict[str, Tensor]:
    """Return the tensors of one of several files of a network, as they are named."""
    form = sniff(stream, size)
    if form == "safetensors":
        file = SafeTensors(stream, size)
        return _flat(file.state, file.size, file.read, size)
    if form == "zip":
        archive = _torch_zip.Archive(stream, size)
        tree = archive.tree("data.pkl")
        return _flat(tree, lambda k: archive.size(f"data/{k}"), lambda k: archive.read(f"data/{k}"), size)
    if form == "legacy":
        old = Legacy(stream, size)
        return _flat(old.tree, old.size, old.read, size)
    raise Damaged("has a part that is neither safetensors nor of torch.save")


def _flat(tree: Any, nbytes: Callable[[str], int], read: Callable[[str], bytes], size: int) -> dict[str, Tensor]:
    if not isinstance(tree, dict) or not all(isinstance(value, TensorRef) for value in tree.values()):
        raise Damaged("has a part that is no list of tensors")
    check_all(tree, nbytes, STATE_OVER_FILE * size + (1 << 16))
    return materialise(tree, read)


def of_tensors(found: list[Part], note: str) -> Content:
    """Return networks whose tensors have been made as a file's content."""
    return Content("safetensors", found, _as_they_are, [note])


def _as_they_are(state: Mapping[str, TensorRef | Tensor]) -> dict[str, Tensor]:
    return materialise(state, _nowhere)


def _nowhere(key: str) -> bytes:
    raise Damaged(f"lacks its record '{clean(key)}'")


def is_robustkit(folder: Path, name: str = WEIGHTS) -> bool:
    """Return whether a folder is robustkit's own checkpoint, and ``name`` one of its files."""
    return name in (WEIGHTS, META) and all(os.path.isfile(folder / file) for file in (META, WEIGHTS))


def robustkit_members(folder: Path, arch: str | None) -> tuple[list[nn.Module], list[str], tuple[str, ...]]:
    """Return members of robustkit's own checkpoint, normalisation inside, their architectures, and what is to be said.

    What the files declare is checked before; code that they name is run where ``arch`` names it too.
    """
    from robustkit import models

    weights, meta_file = folder / WEIGHTS, folder / META
    if meta_file.stat().st_size > JSON_BYTES:
        raise Damaged(f"has an {META} of more than {JSON_BYTES} bytes")
    with weights.open("rb") as stream:
        size = weights.stat().st_size
        if sniff(stream, size) != "safetensors":
            raise Damaged(f"has a {WEIGHTS} that is no safetensors file")
        file = SafeTensors(stream, size)
        check_all(file.state, file.size, STATE_OVER_FILE * size + (1 << 16))
    try:
        meta = read_meta(folder)
    except RecursionError:
        raise Damaged(f"has an {META} that is nested too deeply") from None
    _check_meta(meta, file.state, arch)
    ensemble = load_ensemble(folder, arch=arch)
    archs = [models.as_named(row["arch"], arch) for row in meta["members"]]
    return list(ensemble.members), archs, ("normalisation is inside, as robustkit trained it",)


def _check_meta(meta: Mapping[str, Any], state: Mapping[str, TensorRef], arch: str | None) -> None:
    """Build every member without memory and hold it against the weights, before :func:`load_ensemble` allocates."""
    from robustkit import models
    from robustkit.auditing._infer import declared

    rows, classes, shape = meta["members"], meta["classes"], meta["shape"]
    ok = isinstance(rows, list) and 0 < len(rows) <= 1000 and isinstance(classes, list) and 0 < len(classes) <= 100_000
    ok = ok and isinstance(shape, list) and len(shape) == 3 and all(type(n) is int and 0 < n <= 16384 for n in shape)
    if not ok or not all(isinstance(row, dict) and isinstance(row.get("arch"), str) for row in rows):
        raise Damaged(f"has an {META} whose members, classes or shape make no sense")
    for index, row in enumerate(rows):
        if not models.consented(row["arch"], arch):
            # Cause: robustkit's own checkpoint was trained with an architecture from a file or module of somebody.
            raise Damaged(
                f"needs the code '{clean(row['arch'], 300)}', which is not run at a checkpoint's word",
                f"name it: --arch '{clean(row['arch'], 300)}'",
            )
        params = row.get("params") or {}
        if not isinstance(params, dict) or any(not _small_all(value) for value in params.values()):
            raise Damaged(f"has an {META} with unusual parameters of '{clean(row['arch'])}'")
        if models.is_code(row["arch"]):  # it builds what it likes; whether the weights fit is seen when they are loaded
            continue
        expected = declared(row["arch"], shape[0], len(classes), params)
        prefix = f"members.{index}.network."
        held = {k.removeprefix(prefix): v.size for k, v in state.items() if k.startswith(prefix)}
        if held != expected:
            # Cause: weights.safetensors and ensemble.json are of two trainings.
            raise Damaged(f"has a {WEIGHTS} that does not fit '{clean(row['arch'])}' as {META} has it")


def _small_all(value: object, depth: int = 4) -> bool:
    """Return whether a value is small, or lists and mappings of a few small ones: lists of widths, a genotype."""
    if isinstance(value, list | dict):
        inner = value.values() if isinstance(value, dict) else value
        return depth > 0 and len(value) <= MOST_VALUES and all(_small_all(one, depth - 1) for one in inner)
    return _small(value)


def _small(value: object) -> bool:
    """Return whether a builder may be given a value at a file's word: a depth of a thousand million never ends."""
    return value is None or isinstance(value, bool | str) or (isinstance(value, int | float) and abs(value) <= 4096)

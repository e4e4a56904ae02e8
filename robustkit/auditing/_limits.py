"""What a file may ask of us before a byte is allocated for it, and the one sentence that refuses it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from robustkit.base.errors import UserError

GIB, MIB = 1 << 30, 1 << 20
FILE_BYTES = 4 * GIB  # a classifier of a thousand million float32 weights
PICKLE_BYTES = 64 * MIB  # the pickle names tensors and does not hold them; ResNet-152's is 0.1 MiB
PICKLE_OPS = 2_000_000
JSON_BYTES = 16 * MIB
ZIP_DIRECTORY_BYTES = 8 * MIB
ZIP_ENTRIES = 50_000
ZIP_INFLATED_BYTES = 256 * MIB  # of all compressed entries together; torch.save compresses none
ZIP_RATIO = 200  # deflate reaches 1032 on zeros; the code inside TorchScript stays below 20
TENSORS = 50_000
DIMS = 8
STATE_OVER_FILE = 16  # bytes of the state as float32 over bytes of the file: uint8 (4) times tied weights (4)
NESTING = 8  # of containers around a state dict
FOLDER_FILES = 1000
ACCEPTED = "a PyTorch checkpoint, safetensors, TorchScript, torch.export .pt2, ONNX, or robustkit's own folder"


def clean(text: object, length: int = 80) -> str:
    """Return text that comes from a file as printable ASCII on one line, cut to ``length``."""
    shown = str(text)[: length + 1].encode("ascii", "backslashreplace").decode()
    shown = "".join(c if c.isprintable() else "?" for c in shown)
    return shown if len(shown) <= length else shown[: length - 3] + "..."


def refuse(path: Path | str, why: str, remedy: str = f"accepted are {ACCEPTED}") -> NoReturn:
    """Raise the :class:`UserError` that names the file, what is wrong with it, and what would be accepted."""
    raise UserError(f"'{clean(path, 300)}' {why}; {remedy}.") from None


DISTRIBUTED = (
    "belongs to a torch.distributed.checkpoint folder",
    "convert the folder with `python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER model.pt` and "
    "name model.pt",
)


class Damaged(Exception):
    """Why a file is not read, and what to do about it; becomes a :class:`UserError` where its name is known."""

    def __init__(self, why: str, remedy: str = f"accepted are {ACCEPTED}") -> None:
        super().__init__(why)
        self.remedy = remedy


class NoNetwork(Damaged):
    """A file that is whole and is known to hold something else than a network: an optimiser's state."""


def parse_json(data: bytes) -> Any:
    """Parse JSON of bounded size without duplicate keys, whatever is in it; :class:`Damaged` says why not."""
    if len(data) > JSON_BYTES:
        raise Damaged(f"holds {len(data) / MIB:.0f} MiB of JSON where at most {JSON_BYTES // MIB} are read")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(found := dict(pairs)) != len(pairs):
            raise ValueError("a key occurs twice")
        return found

    try:
        return json.loads(data, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"holds JSON that cannot be read ({clean(error)})") from None

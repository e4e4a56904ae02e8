"""How things travel between processes: as bytes and plain arrays, which a node holds once for all its workers.

Code goes by name (:mod:`robustkit.evaluation.executors._code`), so that what is not importable there is said in a
sentence. Weights are copied on arrival; the images of a split are read where the node holds them.
"""

from __future__ import annotations

import io
import pickle
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from robustkit.base.errors import RunError, UserError
from robustkit.data import Dataset, Source, Split
from robustkit.evaluation.executors._code import Code

Array = npt.NDArray[Any]
Packed = tuple[bytes, list[Array]]  # the structure, and what is large in it
FACTS = ("name", "title", "threat", "flip", "recipe", "image_size")


def pack(value: Any, name: str) -> Packed:
    """Return a value as it travels; a :class:`UserError` where it holds what only this process has.

    Parameters
    ----------
    name : str
        What an error calls it.
    """
    arrays: list[Array] = []
    stream, code = io.BytesIO(), Code()
    try:
        _Pickler(stream, arrays, code).dump(value)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        # Cause: a model holds a lambda, a file handle or a class that a function defines.
        raise UserError(
            f"{name} cannot be sent to another process ({reason}); lambdas, open files and what a function defines do "
            "not travel: define it at the top of its file, or leave --executor out."
        ) from None
    return pickle.dumps(code) + stream.getvalue(), arrays


def unpack(packed: Packed) -> Any:
    """Return what was packed; a :class:`RunError` names code that is not here."""
    structure, arrays = packed
    stream = io.BytesIO(structure)
    try:
        pickle.load(stream).meet()
        return pickle.load(stream, buffers=arrays)
    except (ImportError, AttributeError) as error:
        raise RunError(
            f"a worker lacks code that the models need ({error}); install it on every node, or leave --executor out."
        ) from None


def size_of(packed: Packed) -> int:
    """Return how many bytes travel."""
    return len(packed[0]) + sum(array.nbytes for array in packed[1])


class _Pickler(pickle.Pickler):
    """Pickles with arrays beside the stream, tensors as arrays, and datasets without the files that they are from."""

    def __init__(self, stream: io.BytesIO, arrays: list[Array], code: Code) -> None:
        super().__init__(stream, protocol=5, buffer_callback=self._beside)
        self._arrays, self._code = arrays, code

    def _beside(self, buffer: pickle.PickleBuffer) -> None:
        self._arrays.append(np.frombuffer(buffer.raw(), np.uint8))

    def reducer_override(self, value: Any) -> Any:
        """Return how a tensor, a split or a dataset is put together again."""
        if type(value) in (Tensor, nn.Parameter) and value.layout is torch.strided and not value.is_quantized:
            return _reduced(value)
        if isinstance(value, Split):
            return _split, (np.ascontiguousarray(value.x.numpy()), value.y.numpy(), value.ids.numpy())
        if isinstance(value, Dataset):
            facts = {name: getattr(value, name) for name in FACTS}
            source = Source(value.classes, value.shape, _gone, value.whole, value.source.notes)
            return _dataset, (facts, source, {name: value.split(name) for name in ("train", "validation")})
        self._code.note(value)
        return NotImplemented


def _reduced(value: Tensor) -> Any:
    held = value.detach().cpu()
    last = not held.is_contiguous() and held.is_contiguous(memory_format=torch.channels_last)
    if not held.is_contiguous() and not last:  # as it lies in memory, with its gaps
        return NotImplemented
    held = held.permute(0, 2, 3, 1) if last else held
    bits = held.view(torch.int16) if held.dtype is torch.bfloat16 else held
    about = {"dtype": held.dtype, "last": last, "grad": value.requires_grad, "learned": isinstance(value, nn.Parameter)}
    return _tensor, (bits.numpy(), about)


def _tensor(array: Array, about: dict[str, Any]) -> Tensor:
    """Return a tensor of its own memory: a model may write where it keeps its statistics."""
    value = _shown(array).clone()
    value = value.view(about["dtype"]) if value.dtype is not about["dtype"] else value
    value = value.permute(0, 3, 1, 2) if about["last"] else value
    return nn.Parameter(value, about["grad"]) if about["learned"] else value.requires_grad_(about["grad"])


def _shown(array: Array) -> Tensor:
    """Return an array as a tensor of the same memory, which is only read."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


class _Rows:
    """The images of a split, by their ids in the source that they are from."""

    def __init__(self, images: Tensor, ids: Tensor) -> None:
        most = int(ids.max()) + 1 if len(ids) else 0
        self.images, self.shape, self.dtype = images, (most, *images.shape[1:]), images.dtype
        self._place = torch.full((most,), -1)
        self._place[ids] = torch.arange(len(ids))

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        return self.images[self._place[rows]]


def _split(images: Array, y: Array, ids: Array) -> Split:
    kept = _shown(ids).clone()
    pixels = _Rows(_shown(images), kept)
    labels = torch.zeros(pixels.shape[0], dtype=torch.int64)
    labels[kept] = _shown(y)
    return Split(pixels, labels, kept)


def _dataset(facts: dict[str, Any], source: Source, splits: dict[str, Split]) -> Dataset:
    return Dataset(**facts, source=source, _splits=splits)


def _gone(name: str) -> Split:
    """Stand where a dataset's files were."""
    raise RunError(f"the split '{name}' did not travel with its dataset.")

"""Reading an npz by hand gives what numpy.load gives, refuses what it refuses, and unpickles nothing."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import pytest

from robustkit.records import _npz

ARRAYS = {
    "floats": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "by columns": np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
    "none": np.zeros((0, 3), np.uint8),
    "one": np.array(True),
    "text": np.array(["a", "bcd"]),
    "big-endian": np.arange(3, dtype=">i4"),
}


def saved(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def test_it_is_what_numpy_reads():
    content = saved(**ARRAYS)
    found = _npz.read(content)
    with np.load(io.BytesIO(content), allow_pickle=False) as expected:
        assert list(found) == expected.files
        for name, array in found.items():
            np.testing.assert_array_equal(array, expected[name])
            assert (array.dtype, array.flags.writeable) == (expected[name].dtype, True)
            assert array.flags.f_contiguous == expected[name].flags.f_contiguous
    assert list(_npz.read(content, skip=("floats", "text"))) == ["by columns", "none", "one", "big-endian"]


class Telling:
    def __reduce__(self) -> Any:
        return pytest.fail, ("unpickled",)


def test_objects_are_refused_and_not_unpickled():
    with pytest.raises(ValueError, match="Python objects"):
        _npz.read(saved(bad=np.array([Telling()], dtype=object)))


@pytest.mark.parametrize("place", ["header", "end", "array"])
def test_what_is_damaged_is_refused(place: str):
    content = saved(only=np.arange(100))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        member = archive.read("only.npy")
    if place == "end":
        broken = content[: len(content) // 2]
    else:
        changed = member[:-8] if place == "array" else member.replace(b"NUMPY", b"NUMPX")
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("only.npy", changed)
        broken = buffer.getvalue()
    with pytest.raises((ValueError, zipfile.BadZipFile)):
        _npz.read(broken)

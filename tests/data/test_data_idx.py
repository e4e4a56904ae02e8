"""IDX files, plain and gzipped, whole and damaged."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from robustkit import data
from robustkit.base.errors import UserError

NOTMNIST = Path(__file__).parents[3] / "shared" / "data" / "notmnist"


def write(folder: Path, prefix: str, x: np.ndarray, y: np.ndarray, *, zipped: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in ((f"{prefix}-images-idx3-ubyte", x), (f"{prefix}-labels-idx1-ubyte", y)):
        content = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
        path = folder / (f"{name}.gz" if zipped else name)
        path.write_bytes(gzip.compress(content) if zipped else content)


X = np.arange(4 * 2 * 3, dtype=np.uint8).reshape(4, 2, 3)
Y = np.array([0, 2, 1, 2], np.uint8)


@pytest.mark.parametrize("zipped", [False, True])
def test_one_split_is_all_samples(zipped: bool, tmp_path: Path):
    write(tmp_path, "t10k", X, Y, zipped=zipped)
    loaded = data.load(f"idx:{tmp_path}")
    assert (loaded.shape, loaded.classes, loaded.whole) == ((1, 2, 3), ("0", "1", "2"), True)
    split = loaded.everything()
    assert (split.x[:, 0].numpy() == X).all()
    assert split.y.tolist() == Y.tolist()


def test_both_splits_are_a_division(tmp_path: Path):
    write(tmp_path, "t10k", X, Y)
    write(tmp_path, "train", np.concatenate([X] * 5), np.tile(Y, 5))
    loaded = data.load(f"idx:{tmp_path}")
    assert [len(loaded.split(name)) for name in data.SPLITS] == [18, 2, 4]
    assert loaded.split("test").y.tolist() == Y.tolist()


def test_notmnist_is_found_below_the_data_dir(tmp_path: Path):
    write(tmp_path / "notMNIST" / "raw", "t10k", X, Y)
    assert data.load("notmnist", data_dir=tmp_path).classes == tuple("ABCDEFGHIJ")
    with pytest.raises(UserError, match=r"notMNIST is missing in .*; give --data-dir DIR that holds notMNIST/raw"):
        data.load("notmnist", data_dir=tmp_path / "elsewhere")


def test_damaged_files(tmp_path: Path):
    with pytest.raises(UserError, match="does not exist; give IDX files"):
        data.load(f"idx:{tmp_path / 'nowhere'}")
    with pytest.raises(UserError, match="has no IDX images"):
        data.load(f"idx:{tmp_path}")
    write(tmp_path / "a", "t10k", X, Y)
    images = tmp_path / "a" / "t10k-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"is cut off or damaged: its head promises \(4, 2, 3\)"):
        data.load(f"idx:{tmp_path / 'a'}")
    images.write_bytes(b"\x89PNG and more")
    with pytest.raises(UserError, match="is no IDX file of bytes"):
        data.load(f"idx:{tmp_path / 'a'}")
    write(tmp_path / "b", "t10k", X, Y[:3])
    with pytest.raises(UserError, match=r"images of shape \(4, 2, 3\) and labels of shape \(3,\)"):
        data.load(f"idx:{tmp_path / 'b'}")
    write(tmp_path / "c", "t10k", X, Y, zipped=True)
    labels = tmp_path / "c" / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(labels.read_bytes()[:10])
    with pytest.raises(UserError, match="cannot be read"):
        data.load(f"idx:{tmp_path / 'c'}")
    labels.unlink()
    with pytest.raises(UserError, match="has images of t10k but no labels"):
        data.load(f"idx:{tmp_path / 'c'}")
    write(tmp_path / "notmnist", "t10k", X, Y + 9)
    with pytest.raises(UserError, match="label 11 in .* is beyond the 10 classes"):
        data.load("notmnist", data_dir=tmp_path)


@pytest.mark.skipif(not NOTMNIST.is_dir(), reason="the letters are not at hand")
def test_the_letters():
    split = data.load("notmnist", data_dir=NOTMNIST.parent).everything()
    assert (len(split), split.shape) == (10_000, (1, 28, 28))
    assert np.bincount(split.y).tolist() == [1000] * 10

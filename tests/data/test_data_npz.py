import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from robustkit import data
from robustkit.base.errors import UserError
from robustkit.data.npz import images_of

CIFAR = Path(__file__).parents[2].parent / "shared" / "data" / "cifar10" / "test_1017_lossless.npz"
X = (load_digits().images[:60] * 15).astype(np.uint8)
Y = load_digits().target[:60]


@pytest.fixture
def save(tmp_path):
    def make(**arrays):
        np.savez(tmp_path / "a.npz", **arrays)
        return f"npz:{tmp_path / 'a.npz'}"

    return make


def test_whole(save):
    loaded = data.load(save(x=X, y=Y))
    assert loaded.whole
    everything = loaded.everything()
    assert everything.ids.tolist() == list(range(60))
    assert (everything.x[:, 0].numpy() == X).all()
    assert torch.equal(everything.batch([3])[1][0, 0], torch.from_numpy(X[3]) / 255)
    parts = [loaded.split(name) for name in data.SPLITS]
    assert [len(part) for part in parts] == [42, 6, 12]
    assert torch.cat([part.ids for part in parts]).sort().values.tolist() == list(range(60))
    for part in parts:
        assert (part.x[:, 0].numpy() == X[part.ids]).all()
        assert (part.y.numpy() == Y[part.ids]).all()
    assert loaded.classes == tuple("0123456789")


def test_class_sorted_arrays_are_shuffled(save):
    order = np.argsort(Y, kind="stable")
    everything = data.load(save(x=X[order], y=Y[order])).everything()
    assert len(set(everything.y[:20].tolist())) > 5
    assert (everything.y.numpy() == Y[order][everything.ids]).all()


def test_own_division_with_and_without_validation(save):
    arrays = {"x_train": X[:40], "y_train": Y[:40], "x_test": X[40:], "y_test": Y[40:]}
    loaded = data.load(save(**arrays))
    assert not loaded.whole
    assert [len(loaded.split(name)) for name in data.SPLITS] == [36, 4, 20]
    assert (loaded.split("test").x[:, 0].numpy() == X[40:]).all()
    loaded = data.load(save(**arrays, x_val=X[:17], y_val=Y[:17]))
    assert [len(loaded.split(name)) for name in data.SPLITS] == [40, 17, 20]
    assert loaded.split("validation").y.tolist() == Y[:17].tolist()


def test_layouts(save):
    grey = np.arange(2 * 4 * 5, dtype=np.uint8).reshape(2, 4, 5)
    colour = np.stack([grey, grey + 50, grey + 100], axis=3)
    for x, shape in [
        (grey, (1, 4, 5)),
        (grey[..., None], (1, 4, 5)),
        (grey[:, None], (1, 4, 5)),
        (colour, (3, 4, 5)),
        (colour.transpose(0, 3, 1, 2), (3, 4, 5)),
        (np.zeros((2, 3, 7, 3), np.uint8), (3, 3, 7)),  # both fit: the last axis is C
    ]:
        loaded = data.load(save(x=x, y=[0, 1]))
        assert loaded.shape == shape == loaded.everything().shape
    loaded = data.load(save(x=colour, y=[0, 1]))
    assert (loaded.everything().x[1].numpy() == colour[1].transpose(2, 0, 1)).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats(save, dtype):
    x = (X / 255).astype(dtype)
    split = data.load(save(x=x, y=Y.astype(np.uint8))).everything()
    assert split.x.dtype == torch.float32
    assert (split.x[:, 0].numpy() == x.astype(np.float32)).all()
    assert split.y.tolist() == Y.tolist()


def test_class_names(save):
    names = [f"digit {i}" for i in range(12)]
    assert data.load(save(x=X, y=Y, classes=names)).classes == tuple(names)


def test_a_lonely_class_does_not_break_the_division(save):
    loaded = data.load(save(x=X[:10], y=[0] * 9 + [1]))
    assert [len(loaded.split(name)) for name in data.SPLITS] == [7, 1, 2]
    with pytest.raises(UserError, match="2 samples cannot be divided"):
        data.load(save(x=X[:2], y=[0, 1])).split("train")


NAN = np.where(np.arange(60)[:, None, None] == 5, np.nan, X / 255)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": X, "labels": Y}, r"lacks x, y \(it has images, labels\); save x and y, or x_train"),
        ({"x": X}, r"lacks y \(it has x\)"),
        ({"x_train": X, "y_train": Y}, r"lacks x_test, y_test \(it has x_train, y_train\)"),
        ({"x_train": X, "y_train": Y, "x_test": X, "y_test": Y, "x_val": X}, "lacks y_val"),
        ({"x": X[:, 0], "y": Y}, r"x has shape \(60, 8\); give \(N, H, W\)"),
        ({"x": X.reshape(60, 2, 4, 8), "y": Y}, r"x has shape \(60, 2, 4, 8\)"),
        ({"x": X[None, None], "y": Y}, r"x has shape \(1, 1, 60, 8, 8\)"),
        ({"x": X, "y": Y[:59]}, "60 images in x but 59 labels in y"),
        ({"x": X.astype(np.float32), "y": Y}, r"x is in \[0, 240\]; scale float images to \[0, 1\]"),
        ({"x": X / 255 - 0.5, "y": Y}, r"x is in \[-0.5, 0.441\d*\]"),
        ({"x": NAN, "y": Y}, r"x is in \[nan, nan\]"),
        ({"x": np.where(X > 200, np.inf, 0), "y": Y}, r"x is in \[0, inf\]"),
        ({"x": X.astype(np.int64), "y": Y}, "x is int64; give images as uint8"),
        ({"x": X > 0, "y": Y}, "x is bool"),
        ({"x": X, "y": Y - 1}, "y has labels that run from -1 to 8; -1 is no class: 1 was subtracted"),
        ({"x": X, "y": Y + 10**9}, "y has labels that run from 1000000000 to"),
        ({"x": X, "y": Y.astype(float)}, "y is float64; give labels as integers"),
        ({"x": X, "y": 2 * np.eye(10, dtype=int)[Y]}, r"y have shape \(60, 10\) and are not one-hot"),
        ({"x": X, "y": Y[:, None, None]}, r"y has shape \(60, 1, 1\); give one label per image"),
        ({"x": X, "y": Y, "classes": ["a", "b"]}, "label 9 in .* is beyond its 2 classes"),
        ({"x": X, "y": Y, "classes": np.arange(10)}, "give one text per class"),
        ({"x": X[:0], "y": Y[:0]}, r"x is empty, of shape \(0, 1, 8, 8\)"),
        ({"x": X, "y": Y[:0]}, "y is empty"),
        ({"x": X.astype(object), "y": Y}, r"holds an object array \(pickled\)"),
        ({"x_train": X, "y_train": Y, "x_test": X[:, 1:], "y_test": Y}, r"differ in shape .*\(1, 8, 8\).*\(1, 7, 8\)"),
    ],
)
def test_wrong_arrays(save, arrays, message):
    with pytest.raises(UserError, match=message) as error:
        data.load(save(**arrays))
    assert "\n" not in str(error.value)


def test_wrong_files(tmp_path):
    file = tmp_path / "b.npz"
    for make, message in [
        (lambda: None, "does not exist"),
        (lambda: file.write_bytes(b""), "is not an npz archive that can be read"),
        (lambda: file.write_bytes(b"hello"), "is not an npz archive that can be read"),
        (lambda: file.write_bytes(pickle.dumps([1])), "is not an npz archive that can be read"),
        (lambda: file.write_bytes(b"PK\x03\x04 cut off"), "is not an npz archive that can be read"),
        (lambda: np.save(file.open("wb"), X), "is one array and not an npz archive"),
    ]:
        make()
        with pytest.raises(UserError, match=message):
            data.load(f"npz:{file}")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x", b"raw")
        archive.writestr("y", b"raw")
    with pytest.raises(UserError, match="x is .*; give images as uint8"):
        data.load(f"npz:{file}")
    with pytest.raises(UserError, match="is a folder"):
        data.load(f"npz:{tmp_path}")


def test_a_damaged_archive(save):
    name = save(x=X, y=Y)
    file = Path(name.partition(":")[2])
    content = bytearray(file.read_bytes())
    content[1000] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(UserError, match="is not an npz archive that can be read"):
        data.load(name)


@pytest.mark.skipif(not CIFAR.is_file(), reason="no shared CIFAR-10 here")
def test_real_cifar10():
    loaded = data.load(f"npz:{CIFAR}")
    everything = loaded.everything()
    assert (loaded.whole, loaded.shape, len(everything)) == (True, (3, 32, 32), 1017)
    assert everything.y[:5].tolist() == [3, 8, 8, 0, 6]
    assert everything.x[0, :, 0, 0].tolist() == [158, 112, 49]  # the cat that is CIFAR-10's first test image
    assert everything.sha256() == "08c0864453f968dfb5217f070f6a3dc3e2e34a3239766ead9d32b6e390e41e9d"


def medmnist(folder: Path, classes: int = 3, channels: tuple[int, ...] = (), labels: int = 1) -> Path:
    """A file as MedMNIST's package writes them: three splits, uint8, a column of labels for each."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, n in (("train", 40), ("val", 12), ("test", 15)):
        arrays[f"{part}_images"] = rng.integers(0, 256, (n, 28, 28, *channels), np.uint8)
        arrays[f"{part}_labels"] = rng.integers(0, classes, (n, labels)).astype(np.uint8)
    np.savez(folder / "medmnist.npz", **arrays)
    return folder / "medmnist.npz"


@pytest.mark.parametrize(("channels", "shape"), [((), (1, 28, 28)), ((3,), (3, 28, 28))])
def test_a_file_of_medmnist_is_read_with_its_own_splits(
    channels: tuple[int, ...], shape: tuple[int, ...], tmp_path: Path
):
    file = medmnist(tmp_path, channels=channels)
    loaded, arrays = data.load(f"npz:{file}"), np.load(file)
    assert (loaded.shape, loaded.classes, loaded.whole) == (shape, ("0", "1", "2"), False)
    for name, part in (("train", "train"), ("validation", "val"), ("test", "test")):
        split = loaded.split(name)
        assert split.y.tolist() == arrays[f"{part}_labels"][:, 0].tolist()
        pixels = arrays[f"{part}_images"].reshape(len(split), 28, 28, shape[0]).transpose(0, 3, 1, 2)
        assert torch.equal(split.tensor(), torch.from_numpy(pixels / np.float32(255)))
    assert images_of(file)[0] == "test_images"


def test_several_labels_for_an_image_are_refused_and_missing_keys_are_named_as_in_the_file(tmp_path: Path):
    with pytest.raises(UserError, match=r"train_labels ha(s|ve) shape \(40, 14\)"):
        data.load(f"npz:{medmnist(tmp_path, classes=2, labels=14)}")
    np.savez(tmp_path / "half.npz", train_images=np.zeros((2, 8, 8), np.uint8), train_labels=np.zeros((2, 1), np.uint8))
    with pytest.raises(UserError, match="lacks test_images, test_labels"):
        data.load(f"npz:{tmp_path / 'half.npz'}")


def test_columns_and_one_hot_labels_are_read_and_said(tmp_path: Path):
    for folded, classes, note in (
        (Y[:, None].astype(np.uint8), 10, "y are a column, (N, 1): its numbers are read"),
        (np.eye(11)[Y], 11, "y are one-hot, (N, 11): the place of the one is read"),
    ):
        np.savez(tmp_path / "a.npz", x=X, y=folded)
        found = data.load(f"npz:{tmp_path / 'a.npz'}")
        assert found.everything().y.tolist() == Y.tolist()
        assert (len(found.classes), found.source.notes) == (classes, (note,))

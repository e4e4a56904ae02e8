"""CIFAR and SVHN check MD5 sums of the published files, so tiny stand-ins cannot be read: only their errors are tested
against torchvision itself, and what is made of their arrays against a stand-in with its attributes.
"""

import struct
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from shared_data import SHARED

from robustkit import data
from robustkit.base.errors import RunError, UserError


def write_idx(file, array):
    file.write_bytes(bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes())


@pytest.fixture
def root(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, n in (("train", 200), ("t10k", 30)):
        images = np.arange(n, dtype=np.uint8)[:, None, None] + np.zeros((1, 28, 28), np.uint8)
        write_idx(raw / f"{part}-images-idx3-ubyte", images)
        write_idx(raw / f"{part}-labels-idx1-ubyte", (np.arange(n) % 10).astype(np.uint8))
    return tmp_path


def test_idx_files(root):
    mnist = data.load("mnist", data_dir=root)
    test = mnist.split("test")
    assert test.ids.tolist() == list(range(30))
    assert test.y.tolist() == [*range(10)] * 3
    assert torch.equal(test.batch([7])[1], torch.full((1, 1, 28, 28), 7 / 255))
    train, validation = mnist.split("train"), mnist.split("validation")
    assert validation.y.bincount().tolist() == [2] * 10
    assert torch.cat([train.ids, validation.ids]).sort().values.tolist() == list(range(200))
    assert torch.equal(train.x[:, 0, 0, 0].long(), train.ids)


def test_test_is_read_without_train(root):
    (root / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(b"not read")
    mnist = data.load("mnist", data_dir=root)
    assert len(mnist.split("test")) == 30
    for download in (False, True):  # a file that is there is not fetched again
        with pytest.raises(UserError, match="the train files of MNIST in .* cannot be read"):
            data.load("mnist", data_dir=root, download=download).split("train")


@pytest.mark.parametrize("content", [b"", struct.pack(">4I", 0x803, 200, 28, 28), b"\0\0\x0d\x03" + b"\0" * 12])
def test_damaged_idx_files(root, content):
    (root / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(UserError, match="the train files of MNIST in .* cannot be read"):
        data.load("mnist", data_dir=root).split("train")


def test_images_of_another_size_or_count(root):
    write_idx(root / "MNIST" / "raw" / "t10k-images-idx3-ubyte", np.zeros((30, 8, 8), np.uint8))
    write_idx(root / "MNIST" / "raw" / "train-labels-idx1-ubyte", np.zeros(199, np.uint8))
    mnist = data.load("mnist", data_dir=root)
    with pytest.raises(UserError, match=r"not MNIST \(30 images of shape \(1, 8, 8\) and 30 labels\)"):
        mnist.split("test")
    with pytest.raises(UserError, match="200 images .* and 199 labels"):
        mnist.split("train")


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        ("mnist", "MNIST/raw/train-images-idx3-ubyte"),
        ("fashionmnist", "FashionMNIST/raw/train-images-idx3-ubyte"),
        ("cifar10", "cifar-10-batches-py/data_batch_1"),
        ("cifar100", "cifar-100-python/train"),
        ("svhn", "train_32x32.mat"),
    ],
)
def test_missing_files_name_the_folder_and_the_remedy(tmp_path, name, holds):
    with pytest.raises(UserError) as error:
        data.load(name, data_dir=tmp_path / "none").split("test")
    assert f"is missing or damaged in '{tmp_path / 'none'}'; give --data-dir DIR that holds {holds}" in str(error.value)
    assert str(error.value).endswith("or --download.")
    assert not (tmp_path / "none").exists()


def test_default_root_is_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUSTKIT_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=f"in '{tmp_path}/data'"):
        data.load("cifar10").split("test")


def test_failed_download(tmp_path, monkeypatch):
    nowhere = "http://127.0.0.1:9/"  # the discard port: refused at once
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [nowhere])
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", nowhere + "cifar.tar.gz")
    for name, kind in (("mnist", "MNIST"), ("cifar10", "CIFAR10")):
        with pytest.raises(RunError, match=f"{kind} could not be downloaded to '{tmp_path}' .*check the network"):
            data.load(name, data_dir=tmp_path, download=True).split("test")


def test_cifar_with_other_content_is_refused_by_its_checksum(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"):
        (folder / name).write_bytes(b"cos\nsystem\n(S'echo unpickled'\ntR.")
    with pytest.raises(UserError, match="CIFAR10 is missing or damaged"):
        data.load("cifar10", data_dir=tmp_path).split("test")


def stand_in(n, layout, label_name):
    """Arrays as torchvision's CIFAR (NHWC, list) and SVHN (NCHW view) have them; colour c of image i is i + c."""
    array = (np.arange(n)[:, None, None, None] + np.arange(3)).astype(np.uint8) + np.zeros((1, 32, 32, 1), np.uint8)
    labels = np.arange(n) % 10
    calls = []

    def make(root, download, **part):
        calls.append(part)
        return SimpleNamespace(
            data=array if layout == "NHWC" else array.transpose(0, 3, 1, 2),
            **{label_name: labels.tolist() if layout == "NHWC" else labels},
        )

    return make, calls


@pytest.mark.parametrize(
    ("name", "kind", "layout", "label_name", "parts"),
    [
        ("cifar10", "CIFAR10", "NHWC", "targets", [{"train": False}, {"train": True}]),
        ("cifar100", "CIFAR100", "NHWC", "targets", [{"train": False}, {"train": True}]),
        ("svhn", "SVHN", "NCHW", "labels", [{"split": "test"}, {"split": "train"}]),
    ],
)
def test_colour_arrays(tmp_path, monkeypatch, name, kind, layout, label_name, parts):
    make, calls = stand_in(100, layout, label_name)
    monkeypatch.setattr(torchvision.datasets, kind, make)
    loaded = data.load(name, data_dir=tmp_path)
    ids, x, y = loaded.split("test").batch([5])
    assert (ids.tolist(), y.tolist()) == ([5], [5])
    assert (x[0, :, 31, 0] * 255).round().tolist() == [5, 6, 7]
    assert (len(loaded.split("train")), len(loaded.split("validation"))) == (90, 10)
    assert calls == parts  # train and validation share one reading


def test_class_names():
    hundred = data.load("cifar100").classes
    assert len(hundred) == 100
    assert list(hundred) == sorted(set(hundred))
    assert data.load("fashionmnist").classes == tuple(torchvision.datasets.FashionMNIST.classes)
    assert data.load("cifar10").classes[3] == "cat"


@pytest.mark.skipif(not (SHARED / "mnist").is_dir(), reason="no shared MNIST here")
def test_real_mnist():
    mnist = data.load("mnist", data_dir=SHARED / "mnist")
    test = mnist.split("test")
    assert len(test) == 10_000
    assert test.y[:5].tolist() == [7, 2, 1, 0, 4]
    assert test.y.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert abs(float(test.tensor().mean()) - 0.1325) < 5e-5
    assert (len(mnist.split("train")), len(mnist.split("validation"))) == (55_000, 5_000)
    assert test.sha256() == "a2fd6df68593938c7d0e89f4a60230dcbef7314fea430d0acf263d8f6d14b678"

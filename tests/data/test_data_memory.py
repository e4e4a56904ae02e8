"""What Python users have in memory, as a dataset: real digits, in every container, and every refusal's sentence."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)
from torchvision.datasets import ImageFolder
from torchvision.transforms import ToTensor

from robustkit import data
from robustkit.base.errors import UserError
from robustkit.data import _gather, in_memory
from robustkit.data._labels import Labels

X = (load_digits().images[:60, None] * 15).astype(np.uint8)
Y = load_digits().target[:60]
TX, TY = torch.from_numpy(X), torch.from_numpy(Y)
FX = TX / 255


class Items(Dataset):
    """A map-style dataset of whatever it is given."""

    def __init__(self, images, labels, **named):
        self.images, self.labels = images, labels
        self.__dict__.update(named)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], self.labels[index]


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(FX, Y.tolist(), strict=True))


def pictures():
    return [Image.fromarray(image[0]) for image in X]


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        ((TX, TY), torch.uint8),
        ([TX, TY], torch.uint8),
        ((X, Y), torch.uint8),
        ((X, Y.tolist()), torch.uint8),
        ((FX, TY), torch.float32),
        ((FX.numpy(), Y.astype(np.uint16)), torch.float32),
        ((FX.double(), TY.to(torch.int8)), torch.float32),
        ((FX.numpy().astype(">f8"), Y.astype(">i4")), torch.float32),
        ((X[::-1], Y[::-1]), torch.uint8),
        ((FX.clone().requires_grad_(), TY), torch.float32),
        (TensorDataset(TX, TY), torch.uint8),
        (Items(FX, Y), torch.float32),
        (Items(X, [np.int64(label) for label in Y]), torch.uint8),
        (Items(FX, TY), torch.float32),
        (Items([ToTensor()(image) for image in pictures()], Y.tolist()), torch.float32),
        (DataLoader(TensorDataset(TX, TY), batch_size=7), torch.uint8),
        (DataLoader(Items(FX, Y.tolist()), batch_size=7, num_workers=1), torch.float32),
        (DataLoader(Stream(), batch_size=7), torch.float32),
        (DataLoader(TensorDataset(TX, TY), batch_size=7, shuffle=True), torch.uint8),
        (
            DataLoader(Items(FX, TY), batch_sampler=BatchSampler(RandomSampler(FX), batch_size=9, drop_last=True)),
            torch.float32,
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_contents_order_and_dtype(given, dtype):
    made = in_memory(given)
    split = made.everything()
    backwards = isinstance(given, tuple) and isinstance(given[0], np.ndarray) and given[0].strides[0] < 0
    order = slice(None, None, -1) if backwards else slice(None)
    assert made.whole
    assert (made.shape, made.classes) == ((1, 8, 8), tuple("0123456789"))
    assert split.ids.tolist() == list(range(60))
    assert (split.x.dtype, split.y.dtype) == (dtype, torch.int64)
    assert split.y.tolist() == Y[order].tolist()
    assert np.array_equal(split.x.numpy(), X[order] if dtype == torch.uint8 else (X / 255).astype(np.float32)[order])
    _, x, _ = split.batch([3])
    assert not x.requires_grad


def test_all_containers_are_one_dataset():
    tensors = in_memory((TX, TY)).everything().sha256()
    for given in [(X, Y.astype(np.int16)), TensorDataset(TX, TY), DataLoader(TensorDataset(TX, TY), shuffle=True)]:
        assert in_memory(given).everything().sha256() == tensors


def test_a_pair_is_not_copied(tmp_path):
    assert in_memory((FX, TY)).everything()._pixels.data_ptr() == FX.data_ptr()
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    split = in_memory((mapped, Y)).everything()
    assert split._pixels.data_ptr() == mapped.ctypes.data
    assert np.array_equal(split.x.numpy(), X)


def test_a_dataset_of_robustkit_is_returned_as_it_is(digits):
    assert in_memory(digits) is digits
    assert in_memory(digits, classes=digits.classes) is digits
    with pytest.raises(UserError, match="dataset 'digits' names its classes itself; leave classes out"):
        in_memory(digits, classes=["a", "b"])


def test_names_of_classes(tmp_path):
    names = [f"digit {i}" for i in range(12)]
    assert in_memory((TX, TY), classes=names).classes == tuple(names)
    held = Items(TX, TY, classes=names)
    assert in_memory(held).classes == tuple(names)
    assert in_memory(DataLoader(Subset(held, range(9)))).classes == tuple(names)
    assert in_memory(Items(TX, TY, classes=names[:3])).classes == tuple("0123456789")
    for name, image in (("cat", X[0, 0]), ("dog", X[1, 0])):
        (tmp_path / name).mkdir()
        Image.fromarray(image).save(tmp_path / name / "a.png")
    made = in_memory(ImageFolder(tmp_path, ToTensor()))
    assert made.classes == ("cat", "dog")
    assert np.array_equal(made.everything().x[1, 2].numpy(), (X[1, 0] / 255).astype(np.float32))


def test_a_shuffling_loader_keeps_its_collate_fn_and_batch_size():
    sizes = []

    def collate(items):
        sizes.append(len(items))
        return torch.stack([x for x, _ in items]).flip(3), torch.tensor([y for _, y in items])

    split = in_memory(DataLoader(Items(FX, Y), 25, shuffle=True, collate_fn=collate, drop_last=True)).everything()
    assert sizes == [25, 25, 10]
    assert torch.equal(split.x, FX.flip(3))
    assert split.y.tolist() == Y.tolist()


def test_a_subset_sampler_is_read_in_the_order_of_its_indices():
    rows = [5, 3, 40, 41, 0]
    split = in_memory(DataLoader(Items(FX, Y), 2, sampler=SubsetRandomSampler(rows))).everything()
    assert torch.equal(split.x, FX[rows])
    assert split.y.tolist() == Y[rows].tolist()


def test_the_draws_of_the_program_are_left_alone():
    state = torch.get_rng_state()
    in_memory(DataLoader(TensorDataset(TX, TY), batch_size=7, shuffle=True))
    in_memory(DataLoader(TensorDataset(TX, TY), batch_size=7))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("number", [1, 2, 9, 20])
def test_room_is_doubled_where_the_length_was_not_known(number):
    x, read = _gather._gathered(zip(FX.split(7), map(Labels, TY.split(7)), strict=True), "it", number)
    assert torch.equal(x, FX)
    assert torch.equal(read.y, TY)


def test_more_items_than_are_stacked_at_once(monkeypatch):
    monkeypatch.setattr(_gather, "CHUNK", 16)
    split = in_memory(Items(FX, Y)).everything()
    assert torch.equal(split.x, FX)
    assert split.y.tolist() == Y.tolist()


def test_the_package_is_imported_without_torch():
    code = "import sys, robustkit.data as d; assert 'torch' not in sys.modules; d.in_memory"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert "in_memory" in data.__all__


NAN = FX.clone()
NAN[3, 0, 2, 2] = float("nan")
RGB = np.zeros((60, 8, 9, 3), np.uint8)


class Endless(Dataset):
    def __getitem__(self, index):
        return FX[0], 0


class Failing(Items):
    def __getitem__(self, index):
        if index == 4:
            raise OSError("image file is truncated")
        return super().__getitem__(index)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((TX[:, 0], TY), "the images have shape (60, 8, 8), without a channel axis; add it: x[:, None]."),
        (
            (torch.from_numpy(RGB), TY),
            "the images have shape (60, 8, 9, 3), the channels last; give (N, C, H, W): x.permute(0, 3, 1, 2).",
        ),
        (
            (RGB, Y),
            "the images have shape (60, 8, 9, 3), the channels last; give (N, C, H, W): x.transpose(0, 3, 1, 2).",
        ),
        ((X.reshape(60, 64), Y), "the images have shape (60, 64); give (N, C, H, W), e.g. with x.reshape."),
        ((TX[:0], TY[:0]), "the images have shape (0, 1, 8, 8) and are empty; give at least one image."),
        ((TX, TY[:0]), "the labels are empty; give one for each image."),
        ((TX, TY[:59]), "there are 60 images and 59 labels; give one label for each image."),
        (
            (TX, torch.eye(10)[TY] + torch.eye(10)[TY.flip(0)].roll(1, 1)),
            "the labels have shape (60, 10) and are not one-hot, one 1 among zeros in each row: several labels for an "
            "image, or none, are not evaluated; give one integer for each image.",
        ),
        ((TX, TY[0]), "the labels have shape (); give one integer for each image, (N,)."),
        ((TX, TY.float()), "the labels are float32; give integers from 0: y.long(), if they count the classes."),
        (
            (X, Y.astype(float)),
            "the labels are float64; give integers from 0: y.astype(int), if they count the classes.",
        ),
        ((TX, TY > 4), "the labels are bool; give integers from 0: y.long(), if they count the classes."),
        (
            (TX, TY - 1),
            "the labels run from -1 to 8; -1 is no class: 1 was subtracted from labels that begin at 0, or it marks "
            "images without a label; number the classes from 0 to L - 1.",
        ),
        ((TX, TY + 10**6), "the labels run from 1000000 to 1000009; number the classes from 0 to L - 1, without gaps."),
        ((TX, [str(label) for label in Y]), "the labels are an array of <U1; give numbers: uint8, integers or floats."),
        ((TX.float(), TY), "the images have pixels from 0 to 240, outside [0, 1]; divide them by 255, or give uint8."),
        ((FX * 2000, TY), "the images have pixels from 0 to 1882.35, outside [0, 1]; scale them."),
        (
            (FX - 0.5, TY),
            "the images have pixels from -0.5 to 0.441176, outside [0, 1]; leave their normalisation to the "
            "model, or scale them.",
        ),
        ((NAN, TY), "the images have pixels that are NaN; give numbers from 0 to 1."),
        ((TX.long(), TY), "the images are int64; give uint8 from 0 to 255, or float from 0 to 1."),
        ((X > 0, Y), "the images are bool; give uint8 from 0 to 255, or float from 0 to 1."),
        ((list(TX), TY), "the images are a list; make one tensor or array of it, e.g. torch.stack(them)."),
        (
            (pictures()[0], TY),
            "the images are PIL images; turn them to tensors, with transform=torchvision.transforms.ToTensor().",
        ),
        (("digits", TY), "the images are a str; give a torch tensor or a NumPy array."),
        ((TY, TX), "the tuple of data has shapes (60,) and (60, 1, 8, 8); give the images first, then the labels."),
        ((TX,), "the tuple of data has 1 part (Tensor), not two; give (images, labels) and nothing else."),
        (
            [TX, TY, TY],
            "the list of data has 3 parts (Tensor, Tensor, Tensor), not two; give (images, labels) and nothing else.",
        ),
        (TensorDataset(TX), "the TensorDataset has 1 part (Tensor), not two; give (images, labels) and nothing else."),
        (
            TX,
            "data of type Tensor cannot be used; give an (images, labels) pair of tensors or NumPy arrays, a torch "
            "DataLoader, a torch Dataset of (image, label), a dataset of robustkit, or the name of one.",
        ),
        (Stream(), "Stream is an IterableDataset; wrap it: torch.utils.data.DataLoader(it, batch_size=256)."),
        (Endless(), "Endless has no length; give a torch Dataset with __len__, or a DataLoader."),
        (Items([], []), "Items is empty; give at least one image."),
        (
            Items(pictures(), Y),
            "the images of Items are PIL images; turn them to tensors, with "
            "transform=torchvision.transforms.ToTensor().",
        ),
        (
            Items(TX[:, 0], Y),
            "the image of item 0 of Items has shape (8, 8), without a channel axis; add it: image[None].",
        ),
        (
            Items(RGB, Y),
            "the image of item 0 of Items has shape (8, 9, 3), the channels last; give (C, H, W): "
            "image.transpose(2, 0, 1).",
        ),
        (
            Items([TX[0], TX[1, :, 1:]], Y),
            "the image of item 1 of Items has shape (1, 7, 8), item 0 (1, 8, 8); bring all to one, e.g. with Resize.",
        ),
        (
            Items(TX.float(), Y),
            "the images of items 0 to 59 of Items have pixels from 0 to 240, outside [0, 1]; divide "
            "them by 255, or give uint8.",
        ),
        (Items(TX, ["cat"] * 60), "the label of item 0 of Items is 'cat', a str; give an integer from 0."),
        (
            Items(TX, torch.eye(10)[TY][:, None]),
            "the label of item 0 of Items has shape (1, 10); give one integer from 0.",
        ),
        (
            Items(TX, Y / 10),
            "the labels of items 0 to 59 of Items are float64; give integers from 0: y.long(), if they "
            "count the classes.",
        ),
        (Failing(TX, Y), "Failing fails at item 4 (OSError: image file is truncated); mend it there."),
        (
            DataLoader(Failing(TX, TY), 3),
            "the DataLoader fails at batch 1 (OSError: image file is truncated); mend it there.",
        ),
        (
            DataLoader(TensorDataset(TX, TY, TY), 7),
            "batch 0 of the DataLoader has 3 parts (Tensor, Tensor, Tensor), not "
            "two; give (images, labels) and nothing else.",
        ),
        (
            DataLoader([{"image": x, "label": y} for x, y in zip(TX, TY, strict=True)], 7),
            "batch 0 of the DataLoader is a dict with the keys image, label; give a pair (images, labels).",
        ),
        (DataLoader(FX), "batch 0 of the DataLoader is a Tensor, not a pair; give (images, labels)."),
        (
            DataLoader(TensorDataset(TX, TY), batch_size=None),
            "the DataLoader gives single images and no batches; give it a batch_size, e.g. 256.",
        ),
        (
            DataLoader(TensorDataset(TX[:, 0], TY), 7),
            "the images of batch 0 of the DataLoader have shape (7, 8, 8), without a channel axis; add it: x[:, None].",
        ),
        (
            DataLoader(TensorDataset(NAN, TY), 2),
            "the images of batch 1 of the DataLoader have pixels that are NaN; give numbers from 0 to 1.",
        ),
        (
            DataLoader([(TX[:3], TY[:2])], batch_size=None),
            "batch 0 of the DataLoader has 3 images and 2 labels; give one each.",
        ),
        (
            DataLoader([(TX[:3], TY[:3]), (FX[:3], TY[:3])], batch_size=None),
            "the images of the DataLoader are float32 "
            "(1, 8, 8) after 3 of uint8 (1, 8, 8); give all the same type and shape.",
        ),
        (DataLoader([], 3), "the DataLoader is empty; give at least one image."),
        (
            DataLoader(Items(TX, TY), sampler=WeightedRandomSampler(torch.ones(60), 60)),
            "the DataLoader draws its images "
            "by weight, others at each run; give one with shuffle=False and no sampler.",
        ),
    ],
)
def test_refusals(given, message):
    with pytest.raises(UserError) as error:
        in_memory(given)
    assert str(error.value) == message


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whoever collects what is left of a DataLoader that failed waits five seconds for its worker, in a later test."""
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.1)
    yield
    gc.collect()


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_loader_cannot_stack(workers):
    loader = DataLoader(Items(pictures(), Y), 7, num_workers=workers)
    with pytest.raises(UserError, match=r"fails at batch 0 .*; its images are PIL images: .*ToTensor\(\)") as error:
        in_memory(loader)
    assert "\n" not in str(error.value)
    loader = DataLoader(Items([TX[0], TX[1, :, 1:]], Y), 2, num_workers=workers)
    with pytest.raises(UserError, match="fails at batch 0 .*; its images differ in shape: .*Resize"):
        in_memory(loader)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["a", "b"], "the labels run from 0 to 9; there are 2 classes; number the classes from 0 to 1, without gaps."),
        ("digit", "classes 'digit' is one text; give a list of names, one for each class."),
    ],
)
def test_refused_classes(classes, message):
    with pytest.raises(UserError) as error:
        in_memory((TX, TY), classes=classes)
    assert str(error.value) == message


@pytest.mark.parametrize("as_given", [lambda y: y, lambda y: y.numpy()])
@pytest.mark.parametrize(
    ("fold", "note"),
    [
        (lambda y: y[:, None], "the labels are a column, (N, 1): its numbers are read"),
        (lambda y: torch.eye(12)[y], "the labels are one-hot, (N, 12): the place of the one is read"),
        (lambda y: torch.eye(12, dtype=torch.long)[y], "the labels are one-hot, (N, 12): the place of the one is read"),
        (lambda y: torch.eye(12)[y] > 0, "the labels are one-hot, (N, 12): the place of the one is read"),
        (lambda y: y, ""),
    ],
)
def test_columns_and_one_hot_labels_are_read_and_said(fold, note: str, as_given):
    folded = as_given(fold(TY))
    items = [(image, label) for image, label in zip(FX, folded, strict=True)]
    pairs = TensorDataset(FX, fold(TY))
    for given in ((TX, folded), pairs, DataLoader(pairs, batch_size=7), Items(FX, folded), DataLoader(items, 9)):
        found = data.in_memory(given)
        assert torch.equal(found.everything().y.sort()[0], TY.sort()[0])
        assert found.source.notes == ((note,) if note else ())
        assert len(found.classes) == (12 if "12" in note else 10)


def test_labels_beside_named_classes_that_count_from_one():
    with pytest.raises(
        UserError, match=r"run from 1 to 10; there are 10 classes; they seem to count from 1: give y - 1"
    ):
        data.in_memory((TX, TY + 1), classes=list("abcdefghij"))

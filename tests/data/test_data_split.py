import hashlib

import numpy as np
import pytest
import torch

from robustkit.base.errors import UserError
from robustkit.data._split import Split, holdout, mixed, thirds


@pytest.fixture
def split():
    pixels = torch.arange(5 * 2 * 3, dtype=torch.uint8).reshape(5, 1, 2, 3) * 8
    return Split(pixels, torch.tensor([0, 1, 0, 1, 1]), torch.tensor([4, 0, 3]))


def test_batch_scales_bytes_and_follows_ids(split):
    ids, x, y = split.batch([2, 0])
    assert ids.tolist() == [3, 4]
    assert y.tolist() == [1, 1]
    assert x.dtype == torch.float32
    assert x.is_contiguous()
    assert torch.equal(x[0, 0], torch.tensor([[144.0, 152, 160], [168, 176, 184]]) / 255)
    assert torch.equal(x, split.tensor()[[2, 0]])
    assert (len(split), split.shape, split.y.tolist()) == (3, (1, 2, 3), [1, 0, 1])


def test_batch_takes_ranges_masks_and_nothing(split):
    assert split.batch(range(1, 3))[0].tolist() == [0, 3]
    assert split.batch(torch.tensor([True, False, True]))[0].tolist() == [4, 3]
    assert split.batch([])[1].shape == (0, 1, 2, 3)
    with pytest.raises(IndexError):
        split.batch([3])


def test_floats_stay_as_they_are_and_are_not_shared():
    pixels = torch.rand(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    split = Split(pixels, torch.zeros(4, dtype=torch.int64))
    x = split.batch([1])[1]
    assert torch.equal(x[0], pixels[1])
    x.zero_()
    assert pixels[1].min() > 0


def test_take(split):
    assert split.take(2).ids.tolist() == [4, 0]
    assert split.take(2).y.tolist() == [1, 0]
    assert len(split.take(99)) == 3
    with pytest.raises(UserError, match="n 0 is out of range"):
        split.take(0)


def test_sha256_is_of_dtype_shape_labels_and_pixels(split):
    digest = hashlib.sha256(b"torch.uint8 3 (1, 2, 3)")
    digest.update(np.array([1, 0, 1], "<i8").tobytes())
    digest.update(bytes([*range(192, 240, 8), *range(0, 48, 8), *range(144, 192, 8)]))
    assert split.sha256() == digest.hexdigest()
    assert split.take(3).sha256() == split.sha256() != split.take(2).sha256()


def test_wrong_tensors_are_refused():
    with pytest.raises(TypeError, match="float64"):
        Split(torch.zeros(2, 1, 2, 2, dtype=torch.float64), torch.tensor([0, 1]))
    with pytest.raises(TypeError, match="labels are"):
        Split(torch.zeros(2, 1, 2, 2), torch.tensor([0, 1, 2]))


def test_holdout_is_stratified_where_possible():
    labels = torch.arange(100) % 5
    rest, held = holdout(labels, torch.arange(100), 10)
    assert labels[held].bincount().tolist() == [2] * 5
    assert sorted([*rest.tolist(), *held.tolist()]) == list(range(100))
    lonely = torch.tensor([0] * 9 + [1])
    rest, held = holdout(lonely, torch.arange(10), 2)
    assert (len(rest), len(held)) == (8, 2)
    assert len(holdout(labels, torch.arange(100), 2)[1]) == 2  # fewer than there are classes
    with pytest.raises(UserError, match="too small to hold 3 out"):
        holdout(labels, torch.arange(3), 3)


@pytest.mark.parametrize(("n", "sizes"), [(100, (70, 10, 20)), (10, (7, 1, 2)), (3, (1, 1, 1))])
def test_thirds(n, sizes):
    parts = thirds(torch.arange(n) % 3)
    assert tuple(len(parts[name]) for name in ("train", "validation", "test")) == sizes
    assert sorted(torch.cat(list(parts.values())).tolist()) == list(range(n))


def test_two_samples_cannot_be_divided():
    with pytest.raises(UserError, match="2 samples"):
        thirds(torch.tensor([0, 1]))


def test_only_class_sorted_sources_are_shuffled():
    assert mixed(torch.tensor([0, 1, 0, 1])).tolist() == [0, 1, 2, 3]
    assert mixed(torch.tensor([0, 1, 2, 3])).tolist() == [0, 1, 2, 3]  # one of each: nothing to mix
    labels = torch.arange(4).repeat_interleave(50)
    order = mixed(labels)
    assert sorted(order.tolist()) == list(range(200))
    assert set(labels[order[:20]].tolist()) == {0, 1, 2, 3}
    assert torch.equal(order, mixed(labels))

import pytest
import torch
from sklearn.datasets import load_digits

from robustkit import data
from robustkit.base.errors import UserError

SHA256 = {
    "train": "de66cfa790c265d36d9146bb937e8f8e922a38f75e60db08303b048357cb9f2c",
    "validation": "56bfdc64b114847f7be8e6dd9772ae14f3a76f97bb68db420707b84ae1e09362",
    "test": "2b5e82150e23c4ddcebb7a593d6af6faba8514a118594131f1b4485834dcb731",
}
COUNTS = {
    "train": [108, 111, 108, 112, 111, 111, 111, 109, 106, 110],
    "validation": [20] * 10,
    "test": [50, 51, 49, 51, 50, 51, 50, 50, 48, 50],
}


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.mark.parametrize("name", data.SPLITS)
def test_division_is_fixed_and_balanced(digits, name):
    split = digits.split(name)
    assert split.y.bincount().tolist() == COUNTS[name]
    assert split.sha256() == SHA256[name]
    assert digits.split(name) is split


def test_sizes_ids_and_range(digits):
    splits = [digits.split(name) for name in data.SPLITS]
    assert [len(split) for split in splits] == [1097, 200, 500]
    assert torch.cat([split.ids for split in splits]).sort().values.tolist() == list(range(1797))
    for split in splits:
        x = split.tensor()
        assert (float(x.min()), float(x.max())) == (0.0, 1.0)
        assert x.dtype == torch.float32
        assert x.shape[1:] == digits.shape == (1, 8, 8)


def test_pixels_are_those_of_scikit_learn(digits):
    test = digits.split("test")
    assert test.ids[:5].tolist() == [87, 1037, 28, 1118, 904]
    ids, x, y = test.batch([2])
    assert (ids.tolist(), y.tolist()) == ([28], [8])
    assert (x[0, 0, 0] * 16).tolist() == [0, 0, 10, 11, 4, 0, 0, 0]  # load_digits().images[28][0]
    original = load_digits()
    assert (test.tensor().squeeze(1).numpy() * 16 == original.images[test.ids]).all()
    assert (test.y.numpy() == original.target[test.ids]).all()


def test_own_division_is_not_whole(digits):
    assert not digits.whole
    assert digits.classes == tuple("0123456789")
    with pytest.raises(UserError, match="dataset 'digits' has a test split of its own"):
        digits.everything()
    with pytest.raises(UserError, match="unknown split 'tets': did you mean 'test'?"):
        digits.split("tets")

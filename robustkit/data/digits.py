"""Handwritten digits of scikit-learn, which come with it."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits

from robustkit.data import dataset
from robustkit.data._facts import Source
from robustkit.data._samples import Split
from robustkit.data._split import holdout


@dataset(
    "digits",
    title="Digits",
    norm="linf",
    eps=(0.05, 0.1, 0.15, 0.2),
    transfer_eps=0.1,
    flip=False,
    arch="small-resnet",
    epochs=100,
    lr=0.003,
)
def digits() -> Source:
    """Handwritten digits, 8x8 grey, 1,797 real samples, embedded: nothing to download.

    Pixels are counts 0..16 over 16, float32. 1,097 train, 200 validation and 500 test, stratified and fixed; the
    data has no division of its own that anyone uses. Ids are indices into ``sklearn.datasets.load_digits``.
    """
    loaded = load_digits()
    x = torch.from_numpy(loaded.images).float().div_(16).unsqueeze(1)
    y = torch.from_numpy(loaded.target).long()
    rest, test = holdout(y, torch.arange(len(y)), 500)
    train, validation = holdout(y, rest, 200)
    ids = {"train": train, "validation": validation, "test": test}
    return Source(tuple("0123456789"), (1, 8, 8), lambda split: Split(x, y, ids[split]))

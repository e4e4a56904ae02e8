"""Images of the user's own, in the IDX files that MNIST came in."""

from __future__ import annotations

from pathlib import Path

from robustkit.data import _idx, dataset
from robustkit.data._facts import Source


@dataset(
    "idx",
    title="IDX files",
    norm="linf",
    eps=(0.05, 0.1, 0.15, 0.2, 0.3),
    transfer_eps=0.15,
    flip=False,
    arch="resnet20",
    epochs=40,
)
def idx(*, path: str) -> Source:
    """Grey images in MNIST's format: PATH/{train,t10k}-{images-idx3,labels-idx1}-ubyte, plain or .gz.

    With the files of one split only, all samples are that one. There are as many classes as the highest label says.
    Errors are those of :func:`_idx.source`.

    Parameters
    ----------
    path : str
        The folder.
    """
    return _idx.source(Path(path).expanduser())

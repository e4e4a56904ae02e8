"""notMNIST, in MNIST's format."""

from __future__ import annotations

from pathlib import Path

from robustkit.base.errors import UserError
from robustkit.data import _idx, dataset
from robustkit.data._facts import Source

FOLDERS = ("notMNIST/raw", "notMNIST", "notmnist")  # below --data-dir
CLASSES = tuple("ABCDEFGHIJ")


@dataset(
    "notmnist",
    title="notMNIST",
    norm="linf",
    eps=(0.05, 0.1, 0.15, 0.2, 0.3),
    transfer_eps=0.15,
    flip=False,
    arch="resnet20",
    epochs=40,
)
def notmnist(*, data_dir: Path) -> Source:
    """Letters A to J of many fonts, 28x28 grey, as IDX files in DIR/notMNIST/raw; it cannot be downloaded.

    With the test files alone, all samples are these. Errors are those of :func:`_idx.source`.
    """
    folder = next((data_dir / name for name in FOLDERS if (data_dir / name).is_dir()), None)
    if folder is None:
        raise UserError(
            f"notMNIST is missing in '{data_dir}'; give --data-dir DIR that holds notMNIST/raw/t10k-images-idx3-ubyte "
            "and its labels (plain or .gz), or name their folder: idx:PATH."
        )
    return _idx.source(folder, classes=CLASSES)

"""The first images of each class are written with their classes, in one order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmark_script import script
from PIL import Image


def test_first_images_by_name_with_their_classes(tmp_path: Path):
    for part, many in (("train", 4), ("test", 2)):
        for label, name in enumerate(("bird", "ship")):
            (folder := tmp_path / part / name).mkdir(parents=True)
            for i in range(many):
                Image.fromarray(np.full((3, 3), 100 * label + i, np.uint8)).save(folder / f"{i}.png")
    out = tmp_path / "out.npz"
    words = ["--images", str(tmp_path), "--train", "3", "--test", "1", "--out", str(out)]
    assert script("few_of_each_class").main(words) == 0
    made = np.load(out)
    assert made["classes"].tolist() == ["bird", "ship"]
    assert made["x_train"].shape == (6, 3, 3, 3)
    for part, values in (("train", {0, 1, 2, 100, 101, 102}), ("test", {0, 100})):
        x, y = made[f"x_{part}"], made[f"y_{part}"]
        assert {int(image.min()) for image in x} == values == {int(image.max()) for image in x}
        assert (x[:, 0, 0, 0] // 100 == y).all()


def test_a_folder_without_classes_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert script("few_of_each_class").main(["--images", str(tmp_path), "--out", str(tmp_path / "out.npz")]) == 2
    assert "has no folder train" in capsys.readouterr().err


def test_a_class_without_test_images_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for folder in ("train/bird", "train/ship", "test/bird"):
        (tmp_path / folder).mkdir(parents=True)
    assert script("few_of_each_class").main(["--images", str(tmp_path), "--out", str(tmp_path / "out.npz")]) == 2
    assert "has no folder 'ship'" in capsys.readouterr().err

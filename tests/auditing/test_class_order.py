"""Another order of classes: which output stands for which class is read, found, explained, and applied when asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import robustkit
from robustkit.auditing.class_order import cause, read, whole
from robustkit.auditing.detecting import detect
from robustkit.auditing.trials import Given
from robustkit.base.errors import UserError
from robustkit.ensembles.ensemble import Ensemble

QUICK = {"attacks": "fgsm", "eps": "0.1", "reference": False, "trust": "off", "workers": 1, "suites": "attacks"}
FOLDERS = tuple(sorted(map(str, range(1, 13))))  # 1, 10, 11, 12, 2, ...
PETS = ("cat", "dog", "newt")


@pytest.mark.parametrize(
    ("text", "classes", "order"),
    [
        ("2\n0\n1\n", PETS, (2, 0, 1)),
        ("[7, 0, 4]", PETS, (7, 0, 4)),
        ("newt\n\ncat\n dog \n", PETS, (1, 2, 0)),
        ('["eel", "newt", "dog", "cat"]', PETS, (3, 2, 1)),
    ],
)
def test_a_file_of_numbers_or_names(tmp_path: Path, text: str, classes: tuple[str, ...], order: tuple[int, ...]):
    file = tmp_path / "order.txt"
    file.write_text(text, "utf-8")
    assert read(file, classes) == order
    assert read("auto", classes) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2\n0\n", "has 2 numbers for 3 classes; write for each class"),
        ("2\n0\n2\n", "has '2' twice"),
        ("cat\ndog\n", "does not name the class 'newt'"),
        ("cat\ndog\nnewt\ncat\n", "has 'cat' twice"),
        ("", "does not name the class 'cat'"),
        ("[1, 2", "cannot be read"),
        (None, "does not exist"),
    ],
)
def test_a_file_that_is_no_order(tmp_path: Path, text: str | None, message: str):
    file = tmp_path / "order.txt"
    if text is not None:
        file.write_text(text, "utf-8")
    with pytest.raises(UserError, match=message) as error:
        read(file, PETS)
    assert "\n" not in str(error.value)


def test_a_renaming_of_some_labels_is_completed():
    assert whole((2, 0, 1), 5, 5) == (2, 0, 1, 3, 4)
    assert whole((3, 0), 4, 4) == (3, 0, 2, 1)
    assert whole((7, 2), 2, 9) == (7, 2)


@pytest.mark.parametrize(
    ("renaming", "labels", "classes", "text"),
    [
        ((9, 0, 1, 2), (1, 2, 3), (), "count from 1"),
        (tuple(sorted(range(12), key=lambda i: str(i + 1))), range(12), FOLDERS, "alphabetical order (1, 10, 11, ...)"),
        ((0, 1, 3, 4), range(4), (), "lack the class of output 2"),
        ((2, 0, 1), range(3), PETS, ""),
    ],
)
def test_the_cause_is_named(renaming, labels, classes: tuple[str, ...], text: str):
    assert (text in cause(renaming, list(labels), classes)) if text else not cause(renaming, list(labels), classes)


class Levels(nn.Module):
    """The brightness is the label, of the outputs in this order."""

    def __init__(self, order: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("order", torch.tensor(order))

    def forward(self, x: Tensor) -> Tensor:
        level = x.mean((1, 2, 3))[:, None]
        return (-900 * (level - torch.arange(len(self.order)) / len(self.order)) ** 2)[:, self.order]


@pytest.fixture
def levels() -> tuple[Tensor, Tensor]:
    y = torch.randint(12, (200,), generator=torch.Generator().manual_seed(0))
    return (y / 12)[:, None, None, None].expand(-1, 1, 4, 4).contiguous(), y


def test_folders_that_are_numbers_are_named_as_the_cause(levels):
    numeric = [FOLDERS.index(str(one)) for one in range(1, 13)]  # output i is for folder i + 1, the label of which ...
    found = detect(Levels(tuple(numeric)), *levels, Given(normalize="none", scale=1.0), FOLDERS)
    [said] = [f for f in found.findings if f.what == "class order"]
    assert said.concern
    assert "the folders are numbers, read in alphabetical order (1, 10, 11, ...)" in said.evidence
    assert found.how.columns == ()
    asked = detect(Levels(tuple(numeric)), *levels, Given(normalize="none", scale=1.0, reorder=True), FOLDERS)
    assert [numeric[output] for output in asked.how.columns] == list(range(12))
    assert [f.concern for f in asked.findings if f.what == "class order"] == [False]


def test_an_order_is_applied_when_asked(resnets: Ensemble, test_images, tmp_path: Path):
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = resnets.members[0]

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x).roll(3, 1)

    def audited(model: nn.Module, name: str, **more):
        return robustkit.audit(
            model, "digits", n=60, normalize="none", out=tmp_path / name, formats=(), **QUICK, **more
        )  # fmt: skip

    file = tmp_path / "order.json"
    file.write_text(json.dumps([(label + 3) % 10 for label in range(10)]), "utf-8")
    straight = audited(resnets.members[0], "straight")
    found = {name: audited(Turned(), name, class_order=order) for name, order in (("auto", "auto"), ("file", file))}
    left = audited(Turned(), "left")
    for results in found.values():
        assert results["ensembles"][0]["accuracy"] == straight["ensembles"][0]["accuracy"]
        assert results["worst_case"][0]["robust_accuracy"] == straight["worst_case"][0]["robust_accuracy"]
        assert not [f for f in results["audit"][0]["findings"] if f["concern"]]
    assert left["ensembles"][0]["accuracy"] < 0.1
    [said] = [f for f in left["audit"][0]["findings"] if f["what"] == "class order"]
    assert said["evidence"].endswith("nothing was renamed, --class-order auto does it")


def test_auto_leaves_the_order_that_is_right(levels):
    found = detect(Levels(tuple(range(12))), *levels, Given(normalize="none", scale=1.0, reorder=True))
    assert found.how.columns == ()
    assert next(f.value for f in found.findings if f.what == "class order") == "the data's"


def test_outputs_beyond_the_classes_are_chosen_by_a_file(levels, tmp_path: Path):
    x, y = levels
    network, keep = Levels(tuple(range(12))), y < 3
    found = detect(network, x[keep], y[keep], Given(normalize="none", scale=1.0, columns=(0, 1, 2)), PETS)
    assert (found.how.columns, found.trials[0].accuracy, found.trials[0].outputs) == ((0, 1, 2), 1.0, 12)
    with pytest.raises(UserError, match="names output 12, but the model has 12 outputs, from 0"):
        detect(network, x[keep], y[keep], Given(columns=(0, 1, 12)), PETS)

"""Code that a pickle names, unpacked in a process of its own: files of networks come along, modules are compared."""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from robustkit import models
from robustkit.evaluation.executors._travel import pack
from robustkit.models import _files
from robustkit.records.cells import Spec
from robustkit.training.spec import TrainSpec

NET = """
from torch import nn
{more}
class Net(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(channels * 64, classes))

    def forward(self, x):
        return self.net(x)


def net(channels, classes):
    return Net(channels, classes)
"""
OTHER_SIDE = """
import pickle, sys
from pathlib import Path
from robustkit import models
from robustkit.base.errors import RunError
from robustkit.evaluation.executors._travel import unpack
for packed in pickle.loads(Path(sys.argv[1]).read_bytes()):
    try:
        value = unpack(packed)
    except RunError as error:
        print(error)
    else:
        network = models.build(value.arch, 1, 10) if hasattr(value, "arch") else value
        print(type(network).__name__, sum(p.numel() for p in network.parameters()))
"""


def there(values: Sequence[Any], folder: Path, *, path: Path | None = None) -> list[str]:
    """Return what a process in an empty folder says of values that were packed here."""
    packed, empty = folder / "packed", folder / "empty"
    empty.mkdir(exist_ok=True)
    packed.write_bytes(pickle.dumps([pack(value, "a value") for value in values]))
    parts = [str(Path(__file__).parents[2]), *([str(path)] if path else [])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(parts)}
    asked = [sys.executable, "-c", OTHER_SIDE, str(packed)]
    said = subprocess.run(asked, cwd=empty, env=env, capture_output=True, text=True, check=True).stdout
    return said.splitlines()


def training(arch: str) -> TrainSpec:
    return TrainSpec(Spec("defense", "baseline"), "digits", "0" * 64, arch)


def networks(folder: Path, name: str, more: str = "") -> Path:
    """Write a file of networks."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(NET.format(more=more))
    return folder / name


def test_the_file_of_a_network_travels_with_it(tmp_path: Path):
    file = networks(tmp_path / "nets of mine", "nets.py")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "beside_the_nets.py").write_text("WIDTH = 3\n")
    needy = networks(tmp_path / "two", "needy.py", "import beside_the_nets\n")
    network = models.build(f"{file}:net", 1, 10)
    found = there([network, training(f"{file}:net"), models.build(f"{needy}:net", 1, 10)], tmp_path)
    assert found[:2] == ["Net 650", "Net 650"]
    assert "lacks code" in found[2]
    assert "beside_the_nets" in found[2]
    assert str(tmp_path) not in pickle.dumps(pack(network, "a value")).decode("latin-1")  # nobody learns the folder


def test_a_module_with_another_source_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    networks(tmp_path / "mine", "nets_that_differ.py")
    networks(tmp_path / "theirs", "nets_that_differ.py", "WIDTH = 3\n")
    networks(tmp_path / "mine", "nets_that_do_not.py")
    networks(tmp_path / "theirs", "nets_that_do_not.py")
    networks(tmp_path / "mine", "nets_of_mine_alone.py")
    monkeypatch.syspath_prepend(str(tmp_path / "mine"))
    names = ["nets_that_differ:net", "nets_that_do_not:net", "nets_of_mine_alone:net"]
    values = [value for name in names for value in (models.build(name, 1, 10), training(name))]
    found = there(values, tmp_path, path=tmp_path / "theirs")
    assert all("module 'nets_that_differ' has another source there" in said for said in found[:2])
    assert found[2:4] == ["Net 650", "Net 650"]
    assert all("lacks code" in said and "nets_of_mine_alone" in said for said in found[4:])
    for name in names:
        del sys.modules[name.partition(":")[0]]


def test_what_came_from_the_other_side_goes_back_by_name(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(_files, "_SENT", {})
    name = f"{_files.PREFIX}0123456789ab"
    _files.receive(_files.CodeFile("far/nets.py", name, NET.format(more="")))
    try:
        assert models.build("far/nets.py:net", 1, 10)(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
        structure, _ = pack(importlib.import_module(name).Net(1, 10), "a value")
        assert name.encode() in structure
        assert b"class Net" not in structure
    finally:
        del sys.modules[name]

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
from torch import nn

from robustkit import models
from robustkit.base.errors import UserError
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
from robustkit.training.spec import TrainSpec
for packed in pickle.loads(Path(sys.argv[1]).read_bytes()):
    try:
        value = unpack(packed)
    except RunError as error:
        print(error)
    else:
        network = models.build(value.arch, 1, 10) if isinstance(value, TrainSpec) else value
        print(type(network).__name__, sum(p.numel() for p in network.parameters()))
"""


def there(values: Sequence[Any], folder: Path, *, path: Path | None = None) -> list[str]:
    """Return what a process in an empty folder says of values that were packed here."""
    packed, empty = folder / "packed", folder / "empty"
    empty.mkdir(exist_ok=True)
    packed.write_bytes(pickle.dumps([pack(value, "a value") for value in values]))
    parts = [str(Path(__file__).parents[2]), *([str(path)] if path else [])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(parts)}
    (folder / "other_side.py").write_text(OTHER_SIDE)  # with `-c` the folder would be importable
    asked = [sys.executable, str(folder / "other_side.py"), str(packed)]
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
    _files.receive(_files.CodeFile("far/nets.py", "nets.py", name, NET.format(more="").encode()))
    try:
        assert models.build("far/nets.py:net", 1, 10)(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
        structure, _ = pack(importlib.import_module(name).Net(1, 10), "a value")
        assert name.encode() in structure
        assert b"class Net" not in structure
    finally:
        del sys.modules[name]
        _files._CAME.pop(name)


STRICT = """
from dataclasses import dataclass, fields
from pathlib import Path

@dataclass
class Width:
    pixels: int = 64

assert fields(Width)[0].type is int  # no `annotations` of somebody else's __future__
assert Path(__file__).name.startswith("strict")
"""


def test_a_file_runs_there_as_it_does_here(tmp_path: Path):
    strict = networks(tmp_path, "strict.py", STRICT)
    latin, marked = tmp_path / "latin.py", tmp_path / "marked.py"
    source = NET.format(more='NAME = "Gr\xf6\xdfe"\nassert len(NAME) == 5\n')
    latin.write_bytes(b"# -*- coding: latin-1 -*-\n" + source.encode("latin-1"))
    marked.write_bytes(source.encode("utf-8-sig"))
    values = [
        value for file in (strict, latin, marked) for value in (f"{file}:net", models.build(f"{file}:net", 1, 10))
    ]
    found = there([training(value) if isinstance(value, str) else value for value in values], tmp_path)
    assert found == ["Net 650"] * 6


def test_files_of_one_name_do_not_take_each_others_place(tmp_path: Path):
    one, two = networks(tmp_path / "one", "nets.py"), networks(tmp_path / "two", "nets.py", "WIDTH = 3")
    both = nn.Sequential(*(models.build(f"{file}:net", 1, 10) for file in (one, two)))
    assert there([both], tmp_path) == ["Sequential 1300"]


def test_a_file_travels_as_it_was_when_it_was_run(tmp_path: Path):
    file = networks(tmp_path, "edited_meanwhile.py")
    network = models.build(f"{file}:net", 1, 10)
    file.write_text("class Net: ...\n")
    assert there([network], tmp_path) == ["Net 650"]


def test_what_a_file_raises_there_is_told(tmp_path: Path):
    (tmp_path / "width.txt").write_text("3")
    file = networks(
        tmp_path, "needs_a_file.py", "from pathlib import Path\nPath(__file__).with_name('width.txt').read_text()"
    )
    (said,) = there([models.build(f"{file}:net", 1, 10)], tmp_path)
    assert "'needs_a_file.py' was sent to a worker and fails there (FileNotFoundError" in said
    assert "must be on every node" in said


def test_what_a_function_defines_does_not_travel(tmp_path: Path):
    with pytest.raises(UserError, match="cannot be sent to another process .*define it at the top of its file"):
        pack(lambda x: x, "a value")


def test_what_others_call_arch_names_no_code(tmp_path: Path):
    file = networks(
        tmp_path,
        "named.py",
        "class Named(nn.Linear):\n    arch = 'resnet:50'\ndef named(channels, classes):\n    return Named(64, 10)\n",
    )
    assert there([models.build(f"{file}:named", 1, 10)], tmp_path) == ["Named 650"]


def test_a_module_of_the_folder_that_a_worker_is_in_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    networks(tmp_path / "empty", "nets_beside_me.py")
    monkeypatch.syspath_prepend(str(tmp_path / "empty"))
    values = [training("nets_beside_me:net"), models.build("nets_beside_me:net", 1, 10)]
    assert there(values, tmp_path) == ["Net 650"] * 2
    del sys.modules["nets_beside_me"]

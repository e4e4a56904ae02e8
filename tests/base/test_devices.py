"""The device that a name stands for, and what is computed on one that has no float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from robustkit.attacks import arc
from robustkit.base.devices import find_device
from robustkit.base.errors import UserError
from robustkit.ensembles.fusion import Draw
from robustkit.functional import detectors, precision
from robustkit.functional.trace import Trace
from robustkit.suites import _layers
from robustkit.training.step import Means


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mps", "device 'mps' is asked for, but torch sees 0 MPS devices; use --device cpu"),
        ("mps:1", "device 'mps:1' is asked for, but torch sees 0 MPS devices"),
        ("meta", "device 'meta' is not supported; write cpu, cuda, cuda:0, mps or auto"),
        ("gpu", "device 'gpu' is unknown; write cpu, cuda, cuda:0, mps or auto"),
        ("cuda:99", "device 'cuda:99' is asked for, but torch sees"),
    ],
)
def test_devices_that_are_not_there(name: str, message: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=message):
        find_device(name)


def test_an_apple_gpu_is_taken_where_it_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device("mps") == torch.device("mps")
    assert find_device("mps:0") == torch.device("mps:0")
    assert find_device("auto") == torch.device("cpu")
    with pytest.raises(UserError, match="'mps:1' is asked for, but torch sees 1 MPS devices"):
        find_device("mps:1")
    assert not precision.has_float64(torch.device("mps"))
    assert precision.has_float64(torch.device("cuda"))


class WithoutFloat64(TorchDispatchMode):
    """Refuses a float64 tensor on the device ``meta``, as MPS refuses one of its own."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in tree_leaves(made):
            if isinstance(one, torch.Tensor) and one.device.type == "meta" and one.dtype == torch.float64:
                raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support it")
        return made


def test_no_float64_on_a_device_that_has_none(monkeypatch: pytest.MonkeyPatch):
    """``meta``, which computes shapes and types only, stands for the device."""
    monkeypatch.setattr(precision, "has_float64", lambda device: device.type != "meta")
    z = torch.empty(3, 5, 4, device="meta")
    with WithoutFloat64():
        with pytest.raises(TypeError, match="float64"):
            z.double()
        assert Draw((0.5, 0.25, 0.25))(z).dtype == torch.float32
        assert _layers.gram(z).dtype == torch.float32
        means = Means()
        means.add({"loss": z.sum()}, 5)
        members = arc._Members([lambda x: z[0]], torch.tensor([1.0], dtype=torch.float64), False, Trace(5))
        holding, _ = members.judge(z[0], torch.empty(5, dtype=torch.int64, device="meta"), torch.arange(5))
        assert holding.dtype == torch.float32
    assert detectors.wide(z).dtype == torch.float32
    assert detectors.wide(torch.zeros(2)).dtype == torch.float64

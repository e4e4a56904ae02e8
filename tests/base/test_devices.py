"""The device that a name stands for, and what is computed on one that has no float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from accelerator import pretend_cuda
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from robustkit.attacks import arc
from robustkit.base.devices import find_device, find_devices, machine
from robustkit.base.errors import RunError, UserError
from robustkit.ensembles.fusion import Draw
from robustkit.functional import detectors, precision
from robustkit.functional.sending import moved
from robustkit.functional.trace import Trace
from robustkit.suites import _layers
from robustkit.training.step import Means


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mps", "device 'mps' is asked for, but torch sees 0 MPS devices; use --device cpu"),
        ("mps:1", "device 'mps:1' is asked for, but torch sees 0 MPS devices"),
        ("meta", "device 'meta' is not supported; write cpu, cuda, cuda:1, cuda:all, mps or auto"),
        ("cpu:3", "device 'cpu:3' is not supported; write cpu, cuda, cuda:1, cuda:all, mps or auto"),
        ("gpu", "device 'gpu' is unknown; write cpu, cuda, cuda:1, cuda:all, mps or auto"),
        ("cuda:99", "device 'cuda:99' is asked for, but torch sees"),
    ],
)
def test_devices_that_are_not_there(name: str, message: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=message):
        find_device(name)


def test_all_gpus_are_for_those_who_can_use_several():
    with pretend_cuda(count=3):
        assert find_devices("cuda:all") == tuple(torch.device("cuda", index) for index in range(3))
        assert find_devices("cuda:2") == (torch.device("cuda:2"),)
        assert find_devices("auto") == (torch.device("cuda"),)
        with pytest.raises(UserError, match="'cuda:all' is for evaluate and audit; name one GPU here, like cuda:0"):
            find_device("cuda:all")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="'cuda:all' is asked for, but torch sees 0 CUDA devices"):
            find_devices("cuda:all")


def test_an_index_too_high_names_what_there_is_and_how_much_of_it_is_free():
    with pretend_cuda(count=2, limit=3 * 2**30):
        _held = torch.zeros(2**28, device="cuda")
        there = r"cuda:0 \(Pretend GPU\) has 2.0 of 3.0 GiB free, cuda:1 \(Pretend GPU\) has 2.0 of 3.0 GiB free"
        with pytest.raises(UserError, match=rf"'cuda:2' is asked for, but torch sees 2 CUDA devices: {there}; use one"):
            find_device("cuda:2")


def test_a_gpu_that_is_full_is_refused_with_what_is_free(monkeypatch: pytest.MonkeyPatch):
    with pretend_cuda(limit=2**30) as gpu:
        _held = torch.zeros(7 * 2**25, dtype=torch.float32, device="cuda")
        for name in ("cuda", "cuda:0", "cuda:all", "auto"):
            with pytest.raises(UserError, match=r"\(Pretend GPU\) has 0.1 of 1.0 GiB free, too little to begin; end"):
                find_devices(name)
        del _held
        assert find_device("cuda:0") == torch.device("cuda:0")
        assert gpu.live == 0

        def busy(device: object) -> tuple[int, int]:
            raise RuntimeError(
                "CUDA-capable device(s) is/are busy or unavailable\nCUDA kernel errors might be reported"
            )

        monkeypatch.setattr(torch.cuda, "mem_get_info", busy)
        with pytest.raises(UserError, match=r"'cuda:0' cannot be used \(CUDA-capable device\(s\) is/are busy"):
            find_device("cuda:0")


def test_a_model_that_does_not_fit_is_a_sentence_with_what_is_free():
    with pretend_cuda(limit=2**30), pytest.raises(RunError, match="model of 1.00 GiB does not fit: .* of 1.0 GiB free"):
        moved(torch.nn.Linear(2**14, 2**14), torch.device("cuda:0"))


def test_what_is_remembered_is_by_the_kind_of_gpu():
    assert machine(torch.device("cpu")) == "cpu"
    with pretend_cuda(count=2):
        assert machine(torch.device("cuda")) == machine(torch.device("cuda:1")) == "cuda Pretend GPU"


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

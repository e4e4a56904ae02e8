"""A GPU that is not there: tensors that say ``cuda:0``, compute on the CPU, and refuse what CUDA refuses.

    with pretend_cuda() as gpu:
        model.to("cuda:0")
        attacks.get("pgd")(model, x.to("cuda:0"), y.to("cuda:0"), eps=0.1)
    gpu.waits, gpu.copies, gpu.launches        # how often, by line of the project and operator
    gpu.peak                                   # bytes

A tensor on it is a wrapper (:class:`OnDevice`) around a CPU tensor. One ``TorchDispatchMode`` unwraps what an operator
is given, checks it, counts, computes on the CPU and wraps the result; one ``TorchFunctionMode`` sees what never gets
there (``torch.tensor``, ``"cuda"`` without an index, pinning, autocast). Values, masks, ``bool()`` and early stopping
are real, so that any code runs as it is, unlike on the meta device or under ``FakeTensorMode``.

In C++ the wrapper is on the meta device: a build of torch without a GPU has no autograd for one that is on CUDA. What
follows from this are its limits: no torch.compile, no streams (nothing is asynchronous), no CUDA graphs, no
``torch.Generator(device="cuda")``, the global random numbers are those of the CPU, and C++ code that asks for a
tensor's device is told "meta". What an operator costs is not known here, only how many there are.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import accelerator_rules as rules
import numpy as np
import torch
import torch._dynamo  # it looks at what is patched below when it is imported
from accelerator_rules import aten
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

import robustkit

PROJECT = str(Path(robustkit.__file__).parent) + "/"
WAITING = "functional/waits.py"
NAME, MEMORY = "Pretend GPU", 2**36
AUTOCAST = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCUDA)


@dataclass
class Accelerator:
    """What the device has seen, and how it is set.

    Attributes
    ----------
    waits, copies, launches : Counter
        Keys are ``"attacks/_ascent.py:90 nonzero"``: a line of the project (the innermost) and what it did. A wait is a
        point at which the host stands still until the device has caught up.
    live, peak : int
        Bytes of the tensors on the device, now and at most since :meth:`clear`.
    limit : int
        Bytes from which on allocations fail.
    count : int
        GPUs that there are.
    fail_at : int or None
        Which of the allocations to come fails, counted from 1.
    words : str
        How a shortage of memory is reported: a key of ``accelerator_rules.SHORTAGES``.
    rounds : bool
        Whether it rounds as CUDA does: TF32 where torch's flags allow it, x / number as x * (1 / number).
    """

    project: str = PROJECT
    rounds: bool = False
    limit: int = MEMORY
    count: int = 1
    words: str = "allocator"
    fail_at: int | None = None
    waits: Counter[str] = field(default_factory=Counter)
    copies: Counter[str] = field(default_factory=Counter)
    launches: Counter[str] = field(default_factory=Counter)
    live: int = 0
    peak: int = 0
    allocations: int = 0
    _held: dict[int, list[int]] = field(default_factory=dict)  # by address: how many tensors share it, bytes
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def clear(self) -> None:
        """Forget what was counted; what lives stays."""
        for counter in (self.waits, self.copies, self.launches):
            counter.clear()
        self.allocations, self.peak = 0, self.live

    def note(self, counter: Counter[str], what: str) -> None:
        """Count something at the line of the project that runs, or that calls what is there to wait."""
        frame, project = sys._getframe(1), self.project
        while frame is not None:
            code = frame.f_code
            if code.co_filename.startswith(project) and not code.co_filename.endswith(WAITING):
                break
            frame = frame.f_back
        line = f"{code.co_filename[len(project) :]}:{frame.f_lineno}" if frame else "elsewhere"
        counter[f"{line} {what}"] += 1

    def wrap(self, value: Any, index: int = 0) -> Any:
        """Put a result on the device, or each of several."""
        if isinstance(value, Tensor):
            return OnDevice(value, self, index)
        return type(value)(self.wrap(one, index) for one in value) if type(value) in (list, tuple) else value

    def send(self, made: Tensor, index: int = 0) -> OnDevice:
        """Put on the device what the host made of numbers: a copy that it waits for."""
        self.note(self.copies, "to the device")
        self.note(self.waits, "to the device")
        return OnDevice(made, self, index)

    def hold(self, elem: Tensor) -> _Lease | None:
        """Count the memory of a tensor, unless it is a view of what is there; it may not fit."""
        storage = elem.untyped_storage()
        at, size = storage.data_ptr(), storage.nbytes()
        if not size:
            return None
        with self._lock:
            if at not in self._held:
                self.allocations += 1
                if self.allocations == self.fail_at or self.live + size > self.limit:
                    if self.allocations == self.fail_at:
                        self.fail_at = None
                    raise rules.SHORTAGES[self.words](size, self.limit, self.limit - self.live)
                self._held[at] = [0, size]
                self.live += size
                self.peak = max(self.peak, self.live)
            self._held[at][0] += 1
        return _Lease(self, at)

    def release(self, at: int) -> None:
        """Free memory that no tensor uses any more."""
        with self._lock:
            held = self._held[at]
            held[0] -= 1
            if not held[0]:
                del self._held[at]
                self.live -= held[1]


class _Lease:
    """Lives as long as the tensor that holds it (a weak reference to the tensor itself would forbid Module.to)."""

    __slots__ = ("accelerator", "at")

    def __init__(self, accelerator: Accelerator, at: int) -> None:
        self.accelerator, self.at = accelerator, at

    def __del__(self) -> None:
        self.accelerator.release(self.at)


class OnDevice(Tensor):
    """A tensor that says it is on ``cuda:0``, or another ``index``; ``elem`` is the CPU tensor that it stands for."""

    elem: Tensor
    index: int
    accelerator: Accelerator
    _lease: _Lease | None
    __module__ = "torch"  # eagerpy, and so foolbox, asks where a tensor's type is from
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, elem: Tensor, accelerator: Accelerator, index: int = 0) -> OnDevice:
        made = Tensor._make_wrapper_subclass(
            cls, elem.size(), strides=elem.stride(), storage_offset=elem.storage_offset(), dtype=elem.dtype,
            layout=elem.layout, device="meta", requires_grad=False, _extra_dispatch_keys=AUTOCAST,
        )  # fmt: skip
        made.elem, made.accelerator, made._lease, made.index = elem, accelerator, accelerator.hold(elem), index
        return made

    device = property(lambda self: torch.device("cuda", self.index))  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_meta = property(lambda self: False)  # type: ignore[assignment]

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, value: OnDevice) -> None:
        self.elem, self._lease, self.index = value.elem, value._lease, value.index
        Tensor.data.__set__(self, value)

    def get_device(self) -> int:
        return self.index

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, **_: object) -> Any:
        raise TypeError(rules.NO_NUMPY)

    def __array__(self, *_: object) -> Any:
        raise TypeError(rules.NO_NUMPY)

    def __deepcopy__(self, memo: dict[int, object]) -> Tensor:
        with torch.no_grad():
            made = self.detach().clone()
        made.__dict__.update(
            {k: v for k, v in self.__dict__.items() if k not in ("elem", "accelerator", "_lease", "index")}
        )
        memo[id(self)] = made
        return made.requires_grad_(self.requires_grad)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.cpu().__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} of a tensor on the pretend GPU, outside of pretend_cuda()")

    def __repr__(self, **_: object) -> str:
        return f"OnDevice({tuple(self.shape)}, {self.dtype})"


def _on_device(value: object) -> bool:
    return isinstance(value, OnDevice)


# What an operator is given are values, and lists of them: torch's own trees, made for any nesting, take far longer.
def _tensors(values: Iterable[object]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _elem(value: Any) -> Any:
    if isinstance(value, OnDevice):
        return value.elem
    return type(value)(map(_elem, value)) if type(value) in (list, tuple) else value


def _places_of(tensors: list[Tensor]) -> set[int]:
    """Return on which GPUs tensors are; C++ does not know on which one it makes a tensor of a single number."""
    there = [v for v in tensors if isinstance(v, OnDevice)]
    return {v.index for v in there if v.dim()} or {v.index for v in there}


class _Operators(TorchDispatchMode):
    """Every operator that reaches a kernel."""

    def __init__(self, accelerator: Accelerator) -> None:
        super().__init__()
        self.gpu = accelerator

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Spare each operator the wrapper that hides it from torch.compile, which there is none of here."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        packet = func.overloadpacket
        tensors = [*_tensors(args), *_tensors(kwargs.values())]
        ours = [isinstance(v, OnDevice) for v in tensors]
        if not any(ours) and "device" not in kwargs:
            return func(*args, **kwargs)
        places = _places_of(tensors) if self.gpu.count > 1 else set[int]()
        target = rules.target(kwargs, min(places, default=0))
        if not any(ours) and (target is None or target.type != "cuda"):
            return func(*args, **kwargs)
        rules.check(func, args, kwargs, tensors, ours, target, _on_device)
        if len(places) > 1 and packet not in rules.TWO_DEVICES:
            raise RuntimeError(rules.MIXED.format(func).replace("cpu", "cuda:1"))
        index = target.index or 0 if target is not None and target.type == "cuda" else min(places, default=0)
        kwargs.pop("pin_memory", None)
        to_host = packet is aten._to_copy and target is not None and target.type == "cpu"
        self._count(func, args, kwargs, any(ours), target)
        if "device" in kwargs:
            kwargs["device"] = torch.device("cpu")
        bare, named = _elem(tuple(args)), {name: _elem(value) for name, value in kwargs.items()}
        if self.gpu.rounds:
            func, bare = rules.rounded(func, bare)
        out = func(*bare, **named)
        written = rules.written(func, args, kwargs)
        if written is not None:
            if _on_device(written) and written.shape != written.elem.shape:  # squeeze_() of a wrapper squeezes both
                with no_dispatch():
                    func(*args, **kwargs)
            return written
        return out if to_host else self.gpu.wrap(out, index)

    def _count(self, func: Any, args: Any, kwargs: Any, ours: bool, target: torch.device | None) -> None:
        gpu, packet = self.gpu, func.overloadpacket
        copies, waits = rules.traffic(func, args, kwargs, ours, target, _on_device)
        for what in copies:
            gpu.note(gpu.copies, what)
        for what in waits:
            gpu.note(gpu.waits, what)
        if (ours or not copies) and not rules.only_a_view(func):
            gpu.note(gpu.launches, packet.__name__)


class _Calls(TorchFunctionMode):
    """What is decided before an operator is reached."""

    def __init__(self, accelerator: Accelerator) -> None:
        super().__init__()
        self.gpu = accelerator

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor):
            return self._of_numbers(func, args, kwargs)
        if func is Tensor.pin_memory:
            if _on_device(args[0]):
                raise RuntimeError(rules.NO_PINNING)
            made = args[0].clone()
            made.pinned = True
            return made
        if func is Tensor.is_pinned:
            return hasattr(args[0], "pinned")
        if func is Tensor.cuda:
            return args[0].to(rules.indexed("cuda" if len(args) == 1 else args[1]), **kwargs)
        if func in (Tensor.__getitem__, Tensor.__setitem__) and _on_device(args[0]):
            args = (args[0], self._places(args[1], args[0].index), *args[2:])
        if func is Tensor.to or "device" in kwargs:
            args, kwargs = tuple(map(rules.indexed, args)), {k: rules.indexed(v) for k, v in kwargs.items()}
        if func in rules.AUTOCAST and torch.is_autocast_enabled("cuda"):
            args, kwargs = tree_map(self._rough, args), tree_map(self._rough, kwargs)
        return func(*args, **kwargs)

    def _of_numbers(self, func: Any, args: Any, kwargs: Any) -> Any:
        kwargs = {k: rules.indexed(v) for k, v in kwargs.items()}
        device = kwargs.pop("device", None)
        if func is Tensor.new_tensor:
            device = device or args[0].device
            func, args = torch.tensor, args[1:]
            kwargs.setdefault("dtype", args[0].dtype if isinstance(args[0], Tensor) else None)
        elif func is not torch.tensor and isinstance(args[0], Tensor):
            return args[0].to(device, **kwargs) if device is not None else func(*args, **kwargs)
        if device is None or torch.device(device).type != "cuda":
            return func(*args, **kwargs, **({"device": device} if device is not None else {}))
        return self.gpu.send(func(*args, **kwargs), torch.device(device).index or 0)

    def _places(self, index: Any, place: int) -> Any:
        """Return an index whose lists are on the device; C++ would make them where it thinks that the tensor is."""
        if isinstance(index, tuple):
            return tuple(self._places(part, place) for part in index)
        if isinstance(index, list | range | np.ndarray):
            return self.gpu.send(torch.tensor(np.asarray(index)), place)
        return index

    def _rough(self, value: object) -> object:
        if _on_device(value) and value.dtype == torch.float32:  # type: ignore[attr-defined]
            return value.to(torch.get_autocast_dtype("cuda"))  # type: ignore[attr-defined]
        return value


@contextlib.contextmanager
def pretend_cuda(
    rounds: bool = False, limit: int = MEMORY, project: str = PROJECT, count: int = 1
) -> Iterator[Accelerator]:
    """Let torch have GPUs within the block, in this thread and in those that are started within it.

    Several, whose tensors may not meet, have their memory and their counters in common.
    """
    gpu = Accelerator(project, rounds, limit, count=count)
    run = threading.Thread.run

    def in_the_modes(thread: threading.Thread) -> None:
        with _Operators(gpu), _Calls(gpu):
            run(thread)

    with contextlib.ExitStack() as stack:
        for owner, name, stand_in in _stand_ins(gpu):
            if hasattr(owner, name):
                stack.enter_context(mock.patch.object(owner, name, stand_in))
        stack.enter_context(mock.patch.object(threading.Thread, "run", in_the_modes))
        stack.enter_context(_Operators(gpu))
        stack.enter_context(_Calls(gpu))
        yield gpu


def _stand_ins(gpu: Accelerator) -> list[tuple[object, str, Callable[..., Any]]]:
    """Return what of torch is replaced: what asks for a driver, and Module.to."""

    class Properties:
        name, major, minor, total_memory, multi_processor_count = NAME, 9, 0, gpu.limit, 132

    cuda: dict[str, Callable[..., Any]] = {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: gpu.count,
        "_exchange_device": lambda index: 0,
        "_maybe_exchange_device": lambda index: 0,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "synchronize": lambda device=None: gpu.note(gpu.waits, "synchronize"),
        "empty_cache": lambda: None,
        "get_device_name": lambda device=None: NAME,
        "get_device_properties": lambda device=None: Properties,
        "get_device_capability": lambda device=None: (9, 0),
        "is_bf16_supported": lambda *_, **__: True,
        "mem_get_info": lambda device=None: (gpu.limit - gpu.live, gpu.limit),
        "memory_allocated": lambda device=None: gpu.live,
        "max_memory_allocated": lambda device=None: gpu.peak,
        "get_rng_state": lambda device=None: torch.get_rng_state(),
        "set_rng_state": lambda state, device=None: None,
        "manual_seed_all": lambda seed: None,
    }
    return [
        *((torch.cuda, name, stand_in) for name, stand_in in cuda.items()),
        (torch.backends.cudnn.m, "version", lambda: 91000),  # type: ignore[attr-defined]
        # A CPU tensor cannot become a wrapper by ``.data =``; exchanged, parameters stay the objects that they were.
        (torch.__future__, "get_swap_module_params_on_conversion", lambda: True),
        (torch.optim.Optimizer, "_accelerator_graph_capture_health_check", lambda self: None),  # asks the driver
        (torch.optim.Optimizer, "_cuda_graph_capture_health_check", lambda self: None),
    ]

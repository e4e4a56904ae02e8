"""Replayed passes, on a pretend GPU with pretend graphs: what is recorded is executed again on the same tensors.

A pretend graph leaves no numbers behind when it is captured, refuses waits of the host meanwhile, and spoils what
other graphs of its pool left, as CUDA's may. It shows that the right things are copied at the right time; whether CUDA
can capture a network it cannot show. With a GPU the last tests do.
"""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from accelerator import Accelerator, OnDevice, pretend_cuda
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from robustkit import attacks
from robustkit.ensembles import captured, fastpath
from robustkit.ensembles.captured import Captured
from robustkit.ensembles.ensemble import Ensemble, Member
from robustkit.functional.batching import Batched
from robustkit.functional.sampling import SampleGenerator


def storages(values: object) -> set[int]:
    """Return where the memory of tensors on the device begins."""
    return {t.elem.untyped_storage().data_ptr() for t in tree_leaves(values) if isinstance(t, OnDevice)}


class Graph:
    """What stands for a ``torch.cuda.CUDAGraph``."""

    gpu: Accelerator
    everywhere: list[Graph]
    passes: list[captured._Pass]

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any, Any, list[OnDevice]]] = []
        self.pool: object = None
        self.everywhere.append(self)

    def spoil(self, kept: set[int]) -> None:
        """Overwrite what was made in the pool of graphs, and has no owner."""
        for *_, made in self.calls:
            for tensor in made:
                if tensor.elem.is_floating_point() and not storages(tensor) & kept:
                    tensor.elem.fill_(float("nan"))

    def replay(self) -> None:
        counted = self.gpu.launches.copy()
        for one in self.passes:
            if self not in (one._ahead, one._back) and one._ahead.pool is self.pool:
                for graph in (one._ahead, one._back):
                    graph.spoil(storages([vars(other) for other in self.passes]))
        for func, args, kwargs, made in self.calls:
            again = [t for t in tree_leaves(func(*args, **kwargs)) if isinstance(t, OnDevice)]
            for old, new in zip(made, again, strict=bool(made)):
                old.elem.copy_(new.elem)
        self.gpu.launches = counted
        self.gpu.launches["replay"] += 1


class Recorder(TorchDispatchMode):
    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        waited = sum(self.graph.gpu.waits.values())
        out = func(*args, **(kwargs or {}))
        if sum(self.graph.gpu.waits.values()) > waited:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        made = [t for t in tree_leaves(out) if isinstance(t, OnDevice)]
        if storages(made) & storages((args, kwargs)):  # a view, or written in place
            made = []
        self.graph.calls.append((func, args, kwargs or {}, made))
        return out


@contextlib.contextmanager
def recorded(graph: Graph, pool: object, capture_error_mode: str) -> Iterator[None]:
    assert capture_error_mode == "thread_local"
    graph.pool = pool
    with Recorder(graph):
        yield
    graph.spoil(set())


class Stream:
    def __init__(self, device: object = None) -> None:
        pass

    def wait_stream(self, other: Stream) -> None:
        pass


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Accelerator]:
    """A pretend GPU with graphs."""
    Graph.everywhere, Graph.passes = [], []
    begin = captured._Pass.__init__

    def known(self: captured._Pass, *given: Any) -> None:
        begin(self, *given)
        Graph.passes.append(self)

    monkeypatch.setattr(captured._Pass, "__init__", known)
    with pretend_cuda() as gpu:
        Graph.gpu = gpu
        for name, stand_in in {
            "CUDAGraph": Graph, "graph": recorded, "graph_pool_handle": object, "Stream": Stream,
            "current_stream": Stream, "stream": lambda stream: contextlib.nullcontext(),
        }.items():  # fmt: skip
            monkeypatch.setattr(torch.cuda, name, stand_in)
        yield gpu


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))


def ensemble() -> Ensemble:
    return Ensemble([Member(net()) for _ in range(3)]).eval().requires_grad_(False).to("cuda:0")


def images(count: int) -> Tensor:
    return torch.rand((count, 3, 8, 8), generator=torch.Generator().manual_seed(count)).to("cuda:0")


def derived(model: Ensemble, x: Tensor) -> tuple[Tensor, Tensor]:
    point = x.detach().requires_grad_()
    z = model(point)
    return z.detach(), torch.autograd.grad(z.amax(1).sum(), point)[0]


def test_replayed_passes_give_the_same_numbers(gpu: Accelerator):
    plain = ensemble()
    made = captured.proven(plain, images(6))
    for x in (images(6), images(6).flip(0), images(6) / 2):
        with torch.no_grad():
            assert torch.equal(made(x), plain(x))
        for ours, theirs in zip(derived(made, x), derived(plain, x), strict=True):
            assert torch.equal(ours, theirs)
    first = made.member_logits(images(6))
    before = first.clone()
    made.member_logits(images(6) / 3)
    assert torch.equal(first, before), "what was returned belongs to the caller"


def test_a_shape_is_captured_when_it_has_come_often(gpu: Accelerator):
    made = Captured(ensemble())
    for count in range(1, captured.OFTEN + 2):
        derived(made, images(4))
        assert len(Graph.everywhere) == (0 if count < captured.OFTEN else 2)
    x = images(4)
    gpu.clear()
    derived(made, x)
    assert gpu.launches["replay"] == 2
    assert sum(gpu.launches.values()) < 30, gpu.launches
    assert not gpu.waits
    derived(made, images(5))
    assert len(Graph.everywhere) == 2, "another shape has to come as often"


def test_two_passes_may_be_open_at_once(gpu: Accelerator):
    plain = ensemble()
    made = Captured(plain)
    for x in (images(4), images(6)):
        for _ in range(captured.OFTEN):
            derived(made, x)
    one, other = images(4).requires_grad_(), images(6).requires_grad_()
    z, w = made(one), made(other)
    for open_one, point in ((z, one), (w, other)):
        (up,) = torch.autograd.grad(open_one.amax(1).sum(), point, retain_graph=True)
        (down,) = torch.autograd.grad(open_one.amin(1).sum(), point)
        expected = plain(point)
        assert torch.equal(up, torch.autograd.grad(expected.amax(1).sum(), point, retain_graph=True)[0])
        assert torch.equal(down, torch.autograd.grad(expected.amin(1).sum(), point)[0])


def test_second_derivatives_are_refused(gpu: Accelerator):
    made, point = captured.proven(ensemble(), images(4)), images(4).requires_grad_()
    (gradient,) = torch.autograd.grad(made(point).amax(1).sum(), point, create_graph=True)
    with pytest.raises(RuntimeError, match="twice|not have been used in the graph"):
        torch.autograd.grad(gradient.square().sum(), point)


class Asks(nn.Module):
    """A member whose path depends on what it computes, which no graph can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def forward(self, x: Tensor) -> Tensor:
        z = self.net(x)
        return z if bool(z.sum() > -1e9) else -z


def test_what_cannot_be_captured_is_computed_as_before_and_said(gpu: Accelerator, monkeypatch: pytest.MonkeyPatch):
    plain = Ensemble([Asks() for _ in range(2)]).eval().requires_grad_(False).to("cuda:0")
    monkeypatch.setattr(fastpath, "_seconds", lambda *_: 1.0)
    made = fastpath.prepare(plain, images(4))
    assert "captured" not in made.chosen
    assert "not permitted when stream is capturing" in made.launched
    one = Captured(plain)
    for _ in range(captured.OFTEN + 2):
        assert torch.equal(derived(one, images(4))[1], derived(plain, images(4))[1])


def test_wrong_numbers_are_not_used(gpu: Accelerator, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(captured._Pass, "gradient", lambda self, pull: self._gradient.clone())
    with pytest.raises(RuntimeError, match="do not give the numbers"):
        captured.proven(ensemble(), images(4))


@pytest.mark.parametrize("rough", [True, False])
def test_attacks_are_shown_replayed_passes_by_default(rough: bool, gpu: Accelerator, monkeypatch: pytest.MonkeyPatch):
    quick = fastpath._Rough if rough else fastpath._Stacked
    monkeypatch.setattr(fastpath, "_seconds", lambda model, *_: 0.5 if isinstance(model, quick) else 1.0)
    plain, x = ensemble(), images(6)
    made = fastpath.prepare(plain, x)
    assert made.launched == ""
    assert made.chosen == f"{fastpath.STACKED}{fastpath.CAPTURED}" + "; bfloat16 first" * rough
    again = fastpath.prepare(plain, x, chosen=made.chosen)
    assert again.chosen == made.chosen
    assert isinstance(again.exact, Captured)
    assert isinstance(again.rough, Captured) is rough


def test_an_attack_in_batches_is_replayed(gpu: Accelerator):
    plain, x = ensemble(), images(70)
    y = plain(x).argmax(1)

    def attacked(model: nn.Module) -> Tensor:
        draws = SampleGenerator(0, torch.arange(len(x)))
        return attacks.get("pgd")(Batched(model, 64), x, y, eps=0.05, steps=8, generator=draws)

    expected = attacked(plain)
    made = Captured(plain)
    assert torch.equal(attacked(made), expected)
    assert made.passes.of, "batches have few sizes, so that each comes often"
    assert len(made.passes.of) <= 4


def test_off_a_gpu_nothing_is_captured():
    plain = Ensemble([Member(net()) for _ in range(2)]).eval().requires_grad_(False)
    made, x = Captured(plain), torch.rand(4, 3, 8, 8)
    for _ in range(captured.OFTEN + 1):
        assert torch.equal(made(x), plain(x))
    assert not made.passes.of
    assert fastpath.prepare(plain, x).launched == ""


def test_threads_have_passes_of_their_own(gpu: Accelerator):
    plain = ensemble()
    made, x = captured.proven(plain, images(4)), images(4)
    point = x.detach().requires_grad_()
    z = made(point)
    found: list[Tensor] = []

    def beside() -> None:
        found.extend(derived(made, x / 2)[1] for _ in range(captured.OFTEN + 1))

    thread = threading.Thread(target=beside)
    thread.start()
    thread.join()
    assert all(torch.equal(one, derived(plain, x / 2)[1]) for one in found)
    assert torch.equal(torch.autograd.grad(z.amax(1).sum(), point)[0], derived(plain, x)[1])
    assert len(Graph.passes) == 3, "two of the proof, and one of the other thread"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_on_a_real_gpu():
    plain, x = ensemble(), images(64)
    stacked = fastpath._Stacked(copy.deepcopy(plain))
    for model in (plain, stacked):
        made = captured.proven(model, x)
        for ours, theirs in zip(derived(made, x / 2), derived(model, x / 2), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)

"""The pretend GPU itself: it refuses what CUDA refuses, and counts waits, copies, launches and bytes rightly."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable

import accelerator_rules as rules
import numpy as np
import pytest
import torch
from accelerator import OnDevice, pretend_cuda
from torch import nn
from torch.nn import functional

CUDA = torch.device("cuda:0")


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))


def line_of(function: Callable[..., object], offset: int) -> str:
    return f":{function.__code__.co_firstlineno + offset}"


def test_tensors_say_where_they_are_and_keep_their_values():
    x = torch.arange(12.0).view(3, 4)
    with pretend_cuda():
        for moved in (x.to("cuda:0"), x.to("cuda"), x.cuda(), x.to(CUDA), x.to(device="cuda"), x.to(x.cuda())):
            assert isinstance(moved, OnDevice)
            assert moved.device == CUDA
            assert moved.is_cuda
            assert (moved * 2 + 1).device == CUDA
            assert torch.equal(moved.cpu(), x)
            assert not isinstance(moved.cpu(), OnDevice)
        for made in (
            torch.zeros(3, device="cuda"), torch.tensor([1.0, 2.0], device=CUDA), torch.arange(3, device=CUDA),
            torch.as_tensor(np.ones(2), device=CUDA),
            x.cuda().new_tensor([1.0]), x.cuda().new_zeros(2), torch.zeros_like(x.cuda()),
        ):  # fmt: skip
            assert made.device == CUDA
        assert x.cuda().tolist() == x.tolist()
        assert x.cuda().sum().item() == 66


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda x: x + torch.zeros(4), "at least two devices"),
        (lambda x: torch.cat([x, torch.zeros(1, 4)]), "at least two devices"),
        (lambda x: x @ torch.zeros(4, 2), "at least two devices"),
        (lambda x: functional.linear(torch.zeros(1, 4), x), "at least two devices"),
        (lambda x: torch.where(x > 0, x, torch.zeros(3, 4)), "at least two devices"),
        (lambda x: torch.zeros(3, 4)[x.long()[:, 0]], "same device as the indexed tensor"),
        (lambda x: x.clone().index_put_((torch.tensor([0]),), torch.zeros(4)), "at least two devices"),
        (lambda x: x.numpy(), "can't convert cuda:0"),
        (lambda x: np.asarray(x), "can't convert cuda:0"),
        (lambda x: x.pin_memory(), "cannot pin"),
        (lambda x: torch.rand(3, device=CUDA, generator=torch.Generator()), "Expected a 'cuda' device type"),
        (lambda x: x.clone().uniform_(generator=torch.Generator()), "Expected a 'cuda' device type"),
    ],
)
def test_it_refuses_what_cuda_refuses(wrong: Callable[[torch.Tensor], object], words: str):
    with pretend_cuda():
        x = torch.arange(12.0).view(3, 4).to(CUDA)
        with pytest.raises((RuntimeError, TypeError), match=words):
            wrong(x)


@pytest.mark.parametrize(
    "right",
    [
        lambda x: x + torch.tensor(1.0),
        lambda x: torch.where(x > 0, x, torch.tensor(0.0)),
        lambda x: x[torch.tensor([0, 1])],
        lambda x: torch.zeros(3, 4).copy_(x),
        lambda x: x.copy_(torch.zeros(3, 4)),
        lambda x: x.index_put_((torch.tensor([0], device=CUDA),), torch.tensor(1.0)),
        lambda x: torch.rand(3, device=CUDA),
    ],
)
def test_it_allows_what_cuda_allows(right: Callable[[torch.Tensor], torch.Tensor]):
    with pretend_cuda():
        right(torch.arange(12.0).view(3, 4).to(CUDA))


def test_indexing_is_that_of_a_cpu_tensor():
    x = torch.arange(24.0).view(4, 3, 2)

    def gone_through(x: torch.Tensor) -> list[torch.Tensor]:
        y = x.clone().requires_grad_()
        read = [
            y[[0, 2]],
            y[1],
            y[:, -1],
            y[..., [True, False]],
            y[[0, 1], [1, 1]],
            y[np.array([3])],
            y[y > 3],
            y[None],
        ]
        (gradient,) = torch.autograd.grad(sum((part**2).sum() for part in read), y)
        z = x.clone()
        z[0], z[[1, 2], 0], z[z > 20], z[3, 2] = 1.0, 2.0, 3.0, torch.tensor([4.0, 5.0]).to(z.device)
        return [*(part.detach() for part in read), gradient, z]

    expected = gone_through(x)
    with pretend_cuda():
        for made, value in zip(gone_through(x.to(CUDA)), expected, strict=True):
            assert made.device == CUDA
            assert torch.equal(made.cpu(), value)


def waiting(x: torch.Tensor, rows: torch.Tensor) -> None:
    x.sum().item()
    bool((x > 0).all())
    x[x > 0]
    x[rows] = 1.0
    x[x > 1] = torch.zeros((), device=CUDA)
    torch.nonzero(x)
    x.cpu()
    torch.tensor([1.0], device=CUDA)
    torch.where(x > 0, x, -x)
    rows.to(CUDA, non_blocking=True)
    rows.pin_memory().to(CUDA, non_blocking=True)


def test_waits_are_counted_at_their_line():
    with pretend_cuda(project=__file__) as gpu:
        x, rows = torch.arange(12.0, device=CUDA).view(3, 4), torch.tensor([0, 2])
        gpu.clear()
        waiting(x, rows)
        expected = {
            (1, "_local_scalar_dense"): 1, (2, "_local_scalar_dense"): 1, (3, "mask"): 1, (4, "index to the device"): 1,
            (6, "nonzero"): 1, (7, "to the host"): 1, (8, "to the device"): 1, (10, "to the device"): 1,
        }  # fmt: skip
        assert gpu.waits == {f"{line_of(waiting, line)} {what}": n for (line, what), n in expected.items()}
        assert f"{line_of(waiting, 11)} to the device" in gpu.copies, "a copy that nobody waits for"
        assert sum(gpu.copies.values()) == 5


def test_launches_are_counted_without_views_and_copies():
    with pretend_cuda(project=__file__) as gpu:
        x = torch.arange(12.0).to(CUDA)
        gpu.clear()
        y = x.view(3, 4).t().detach()
        assert not gpu.launches
        (y * 2).sum().item()
        assert sorted(key.split()[1] for key in gpu.launches) == ["mul", "sum"]
        assert sum(gpu.launches.values()) == 2


def test_training_moves_the_same_objects_to_the_same_weights():
    def trained(device: str, build: Callable[[nn.Module], torch.optim.Optimizer]) -> list[torch.Tensor]:
        model = net()
        optimiser = build(model)  # before the move, which keeps the parameters that the optimiser was given
        model.to(device)
        for step in range(3):
            x = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(step)).to(device)
            optimiser.zero_grad()
            functional.cross_entropy(model(x), torch.arange(6, device=device) % 5).backward()
            optimiser.step()
        return [value.cpu() for value in copy.deepcopy(model).state_dict().values()]

    for build in (
        lambda m: torch.optim.SGD(m.parameters(), 0.1, 0.9),
        lambda m: torch.optim.Adam(m.parameters(), 0.01, fused=True),
    ):
        expected = trained("cpu", build)
        with pretend_cuda():
            assert all(map(torch.equal, trained("cuda:0", build), expected))


def test_a_fused_optimiser_refuses_gradients_of_another_layout():
    with pretend_cuda():
        model = net().to("cuda:0").to(memory_format=torch.channels_last)
        optimiser = torch.optim.Adam(model.parameters(), fused=True)
        for p in model.parameters():
            p.grad = torch.zeros(p.shape, device=CUDA)
        with pytest.raises(RuntimeError, match="must have same dtype, device, and layout"):
            optimiser.step()
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        optimiser.step()


def test_members_can_be_stacked():
    x, members = torch.rand(6, 3, 8, 8), [net().eval() for _ in range(3)]
    expected = torch.stack([member(x) for member in members]).detach()
    with pretend_cuda() as gpu:
        for member in members:
            member.to("cuda:0")
        weights, buffers = torch.func.stack_module_state(members)
        on = x.to(CUDA).requires_grad_()

        def one(weight: dict[str, torch.Tensor], buffer: dict[str, torch.Tensor]) -> torch.Tensor:
            return torch.func.functional_call(members[0], (weight, buffer), (on,))

        gpu.clear()
        made = torch.func.vmap(one)(weights, buffers)
        assert 0 < sum(gpu.launches.values()) < 30
        assert torch.autograd.grad(made.sum(), on)[0].device == CUDA
        torch.testing.assert_close(made.detach().cpu(), expected)


def test_threads_have_the_device_too():
    found: list[torch.device] = []
    with pretend_cuda():
        thread = threading.Thread(target=lambda: found.append((torch.zeros(2, device="cuda") + 1).device))
        thread.start()
        thread.join()
    assert found == [CUDA]


def test_memory_is_counted_once_for_views_and_freed():
    with pretend_cuda() as gpu:
        x = torch.zeros(2**18, device=CUDA)
        assert gpu.live == 2**20
        view = x.view(2, -1)[0]
        assert gpu.live == 2**20
        y = x + 1
        assert gpu.live == gpu.peak == 2**21
        del x, y
        assert gpu.live == 2**20, "the view still holds it"
        del view
        assert gpu.live == 0
        assert gpu.peak == torch.cuda.max_memory_allocated() == 2**21


def test_a_graph_holds_its_tensors():
    with pretend_cuda() as gpu:
        x = torch.zeros(2**18, device=CUDA, requires_grad=True)
        y = x.exp().exp().sum()
        assert 3 * 2**20 <= gpu.live <= 3 * 2**20 + 64
        del y
        assert gpu.live == 2**20


@pytest.mark.parametrize("words", rules.SHORTAGES)
def test_memory_runs_out_where_it_is_told_to(words: str):
    with pretend_cuda() as gpu:
        x = torch.zeros(8, device=CUDA)
        gpu.clear()
        gpu.fail_at, gpu.words = 2, words
        y = x + 1
        with pytest.raises(torch.OutOfMemoryError if words == "allocator" else RuntimeError) as caught:
            y + 1
        assert "out of memory" in str(caught.value) or "engine" in str(caught.value) or "ALLOC" in str(caught.value)
        assert (y + 2).tolist() == [3.0] * 8, "once"


def test_memory_runs_out_at_the_limit():
    with pretend_cuda(limit=2**20) as gpu:
        x = torch.zeros(2**17, device=CUDA)
        with pytest.raises(torch.OutOfMemoryError, match=r"Tried to allocate 1.00 MiB.*of which 0.50 MiB is free"):
            torch.zeros(2**18, device=CUDA)
        assert torch.cuda.mem_get_info() == (2**19, 2**20)
        del x
        torch.zeros(2**18, device=CUDA)
        assert gpu.live == 0


def test_numbers_are_the_hosts_unless_rounding_is_asked_for():
    model, x = net().eval(), torch.rand(8, 3, 8, 8)
    levels = torch.arange(256.0)
    expected, quotient = model(x).detach(), levels / 255
    with pretend_cuda():
        model.to("cuda:0")
        assert torch.equal(model(x.to(CUDA)).cpu(), expected)
        assert torch.equal((levels.to(CUDA) / 255).cpu(), quotient)
    with pretend_cuda(rounds=True):
        apart = float((model(x.to(CUDA)).detach().cpu() - expected).abs().max())
        assert 1e-5 < apart < 1e-2, "TF32 is the default of convolutions"
        off = (levels.to(CUDA) / 255).cpu() != quotient
        assert 100 < int(off.sum()) < 150
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            assert torch.equal(model(x.to(CUDA)).cpu(), expected)


def test_autocast_computes_in_bfloat16():
    model, x = net().eval(), torch.rand(8, 3, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        expected = model(x).detach()
    with pretend_cuda():
        model.to("cuda:0")
        with torch.autocast("cuda", torch.bfloat16):
            made = model(x.to(CUDA))
        assert made.dtype == torch.bfloat16
        torch.testing.assert_close(made.cpu(), expected, atol=0.05, rtol=0.05)
        assert model(x.to(CUDA)).dtype == torch.float32


def test_nothing_is_left_behind():
    before = torch.cuda.is_available()
    with pretend_cuda():
        assert torch.cuda.is_available()
        x = torch.zeros(2, device=CUDA)
    assert torch.cuda.is_available() == before
    with pytest.raises(RuntimeError, match=r"outside of pretend_cuda"):
        x + 1

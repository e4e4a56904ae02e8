"""What is read of a GPU, and when: on a pretend one, with the results of a CPU."""

from __future__ import annotations

import copy

import pytest
import torch
from accelerator import pretend_cuda
from torch import Tensor, nn

from robustkit import attacks
from robustkit.functional import waits
from robustkit.functional.sampling import SampleGenerator
from robustkit.functional.trace import Trace
from robustkit.functional.waits import Finite, Looks, put, settled

GPU = torch.device("cuda:0")


def test_put_writes_the_chosen_rows_and_waits_for_nothing():
    into, flags = torch.zeros(6, 2), torch.zeros(6, dtype=torch.bool)
    rows, chosen, values = torch.tensor([4, 1, 5]), torch.tensor([True, False, True]), torch.ones(3, 2).double()
    put(rows, chosen, (into, values), (flags, chosen))
    assert into[:, 0].tolist() == [0, 0, 0, 0, 1, 1]
    assert flags.tolist() == [False] * 4 + [True] * 2
    with pretend_cuda() as gpu:
        other = torch.zeros(6, 2, device=GPU)
        given = [t.to(GPU) for t in (rows, chosen, values)]
        gpu.clear()
        put(given[0], given[1], (other, given[2]))
        assert not gpu.waits
        assert torch.equal(other.cpu(), into)


def test_a_cpu_is_looked_at_in_each_step_and_a_gpu_in_every_second():
    masks = [[True] * 4, [True, False, True, True], [True, False, True, False], [False] * 4]
    looks = Looks()
    assert looks.leave(torch.tensor(masks[0])) == (None, None)
    keep, standing = looks.leave(torch.tensor(masks[1]))
    assert keep.tolist() == [0, 2, 3]
    assert standing is None
    with pretend_cuda() as gpu:
        looks, on = Looks(), [torch.tensor(mask).to(GPU) for mask in masks]
        gpu.clear()
        assert looks.leave(on[0]) == (None, None), "a look, and all are there"
        keep, standing = looks.leave(on[1])
        assert keep is None
        assert standing.tolist() == masks[1]
        keep, standing = looks.leave(on[2], standing)
        assert keep.tolist() == [0, 2]
        assert standing is None
        assert sum(gpu.waits.values()) - 2 == 2, "two looks, besides the two lists above"


def test_who_was_done_stays_done():
    with pretend_cuda():
        looks, going = Looks(), torch.tensor([True, True]).to(GPU)
        looks.leave(going)
        _, standing = looks.leave(torch.tensor([False, True]).to(GPU))
        keep, _ = looks.leave(going, standing)
        assert keep.tolist() == [1]


def test_an_iteration_is_compared_every_fourth_time():
    def halved(mask: Tensor) -> tuple[Tensor, Tensor]:
        steps.append(1)
        kept = mask & (torch.arange(mask.shape[1], device=mask.device) < mask.sum(1, keepdim=True) // 2)
        return kept | (mask.sum(1, keepdim=True) <= 1) & mask, mask.sum(1)

    steps: list[int] = []
    mask = torch.ones(2, 8, dtype=torch.bool)
    assert settled(halved, mask).tolist() == [1, 1]
    assert len(steps) == 4
    with pretend_cuda() as gpu:
        on = mask.to(GPU)
        gpu.clear()
        steps.clear()
        found = settled(halved, on)
        assert len(steps) == 4
        assert sum(gpu.waits.values()) == 1
        assert found.tolist() == [1, 1]


def test_gradients_that_are_not_finite_are_found_at_once_on_a_cpu_and_later_on_a_gpu():
    fine, bad = torch.ones(2, 3), torch.tensor([[1.0, 1.0, 1.0], [1.0, float("nan"), 1.0]])
    with pytest.raises(FloatingPointError, match="says who"):
        Finite().note(bad, "says who")
    with pytest.raises(FloatingPointError, match="says who"):
        Finite().note(torch.tensor([[float("inf"), float("-inf")]]), "says who")
    Finite().note(torch.full((2, 3), 3e38), "finite elements, whose sum overflows, are none")
    with pretend_cuda() as gpu:
        fine, bad, second = fine.to(GPU), bad.to(GPU), torch.tensor([True, False]).to(GPU)
        finite = Finite()
        gpu.clear()
        finite.note(bad, "says who")
        for _ in range(waits.CHECK - 2):
            finite.note(fine, "says who")
        assert not gpu.waits
        with pytest.raises(FloatingPointError, match="says who"):
            finite.note(fine, "says who")
        with pytest.raises(FloatingPointError), Finite() as finite:
            finite.note(bad, "says who")
        with Finite() as finite:
            finite.note(bad, "says who", standing=second)  # who is done may ride to wherever it likes
        gpu.clear()
        finite = Finite()
        finite.note(fine, "says who")
        assert finite.settle_and_read(second.any())
        assert sum(gpu.waits.values()) == 1
        finite.note(bad, "says who")
        with pytest.raises(FloatingPointError):
            finite.settle_and_read(second.any())


class Broken(nn.Module):
    """A model whose outputs are finite, and whose gradient is not."""

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return torch.stack([flat.sum(1), (0 * flat).sqrt().sum(1)], 1)


@pytest.mark.parametrize("name", ["pgd", "apgd-ce", "cw", "ead", "fmn", "deepfool", "fab", "adaptive-pgd", "arc"])
def test_every_loop_settles_before_it_ends(name: str):
    x, y = torch.full((3, 1, 4, 4), 0.5), torch.zeros(3, dtype=torch.int64)
    given = {"steps": 3, **({"eps": 0.1} if attacks.attack.entry(name).facts.get("budget") != "minimum" else {})}
    for device in ("cpu", "cuda"):
        with pretend_cuda(), pytest.raises(FloatingPointError, match="not finite"):
            attacks.get(name)(Broken(), x.to(device), y.to(device), **given)


def test_counts_and_losses_of_a_gpu_are_those_of_who_stood():
    rows, standing = torch.tensor([3, 0, 2]), torch.tensor([True, False, True])
    with pretend_cuda() as gpu:
        trace = Trace(5, keep=3)
        on, still = rows.to(GPU), standing.to(GPU)
        nobody, values = torch.zeros(3, dtype=torch.bool).to(GPU), torch.tensor([1.0, 2.0, 3.0]).to(GPU)
        gpu.clear()
        trace.count(on, forwards=1, backwards=2)
        trace.count(on, forwards=1, standing=still)
        trace.loss(on, values)
        trace.loss(on, values, still)
        trace.loss(on, values, nobody)
        assert not gpu.waits
        trace.count(torch.arange(5), forwards=1)  # as other libraries' attacks are counted
        assert trace.forwards.tolist() == [2, 1, 3, 3, 1]
        assert trace.backwards.tolist() == [2, 0, 2, 2, 0]
        assert trace.history.nan_to_num(-1).tolist() == [[2, -1], [-1, -1], [3, 3]], "nobody's step is none"


@pytest.mark.parametrize("look", [1, 2, 5])
def test_how_often_is_looked_changes_no_result(look: int, monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ELU(), nn.Linear(8, 4)).double()
    x = torch.rand(20, 1, 4, 4).double()
    y = model(x).argmax(1)

    def run(device: str) -> tuple[Tensor, Trace]:
        trace = Trace(20, keep=20)
        made = attacks.get("pgd")(
            copy.deepcopy(model).to(device), x.to(device), y.to(device), eps=0.1, steps=12,
            generator=SampleGenerator(0, torch.arange(20)), trace=trace,
        )  # fmt: skip
        return made.cpu(), trace

    expected, before = run("cpu")
    assert before.forwards.unique().numel() > 3, "samples leave at various steps"
    monkeypatch.setattr(waits, "LOOK", look)
    with pretend_cuda():
        made, trace = run("cuda")
        assert torch.allclose(made, expected, atol=1e-12)  # a product's rounding depends on how many rows it has
        assert torch.equal(trace.forwards, before.forwards)
        assert torch.equal(trace.backwards, before.backwards)
        assert torch.allclose(trace.history, before.history, atol=1e-6, equal_nan=True)

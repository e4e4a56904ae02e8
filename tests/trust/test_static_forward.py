"""Which passes count as work on the input, and which models are none of that check's business."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import grad as imported
from trust_by_hand import SHAPE, about, ensemble_of, facts_of, images, labelled, linear, make, probed

from robustkit import models
from robustkit.base import parallel
from robustkit.ensembles.ensemble import Ensemble
from robustkit.pipeline.request import check as asked
from robustkit.study.config import EvaluateConfig
from robustkit.trust import judge, static_forward
from robustkit.trust._faults import Purifying

N = 6
ALL, NONE = [1, 1, 1, 1, 0, 0], [0] * N


def seen(model: nn.Module | Callable[[Tensor], Tensor], shape: tuple[int, ...] = SHAPE) -> tuple[list[int], list[int]]:
    """Return in which passes autograd ran and which ones looped, for six images, the first four of which are tried."""
    ensemble = ensemble_of(model)
    found = facts_of("forward", ensemble, labelled(ensemble, images(N, shape)))
    assert found["looked"].astype(int).tolist() == ALL
    return found["autograd"].astype(int).tolist(), found["loops"].astype(int).tolist()


class Shared(nn.Module):
    """Two convolutions of one block, and one ReLU behind each: ``uses(x)`` times, or as often as is said."""

    def __init__(self, uses: Callable[[Tensor], int] = lambda _: 2) -> None:
        super().__init__()
        self.uses, self.calls = uses, 0
        self.conv, self.relu, self.head = nn.Conv2d(1, 1, 3, padding=1), nn.ReLU(), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        for _ in range(self.uses(x)):
            x = self.relu(self.conv(x))
        return self.head(self.relu(x).flatten(1))


# --- autograd


def by_grad(point: Tensor, loss: Tensor) -> Tensor:
    return torch.autograd.grad(loss, point)[0]


def by_name(point: Tensor, loss: Tensor) -> Tensor:
    return imported(loss, point)[0]


def by_method(point: Tensor, loss: Tensor) -> Tensor:
    loss.backward(inputs=[point])
    return point.grad


def by_function(point: Tensor, loss: Tensor) -> Tensor:
    torch.autograd.backward(loss, inputs=[point])
    return point.grad


@pytest.mark.parametrize("slope", [by_grad, by_name, by_method, by_function])
def test_autograd_in_a_pass_is_seen_whatever_calls_it(slope: Callable[[Tensor, Tensor], Tensor]):
    def purified(x: Tensor) -> Tensor:
        with torch.enable_grad():
            point = x.detach().requires_grad_(True)
            step = slope(point, linear(3)(point).logsumexp(1).sum())
        return linear(3)((point + 0.1 * step.sign()).detach())

    assert seen(purified) == (ALL, NONE)


def test_functional_gradients_and_optimisers_are_seen():
    assert seen(lambda x: linear(3)(x + torch.func.grad(lambda p: linear(3)(p).logsumexp(1).sum())(x))) == (ALL, NONE)

    def descended(x: Tensor) -> Tensor:
        delta = nn.Parameter(torch.zeros_like(x))
        optimiser = torch.optim.SGD([delta], 0.1)
        with torch.enable_grad():
            linear(3)(x + delta).logsumexp(1).sum().backward()
        optimiser.step()
        return linear(3)(x + delta)

    assert seen(descended) == (ALL, NONE)


def test_one_member_of_many_that_purifies_is_enough():
    ensemble = ensemble_of(linear(3), Purifying(linear(3, seed=1)))
    assert facts_of("forward", ensemble, labelled(ensemble, images(N)))["autograd"].astype(int).tolist() == ALL


def test_gradients_of_other_threads_are_not_counted():
    def attacked(x: Tensor) -> Tensor:
        def attack() -> None:
            point = x.detach().requires_grad_(True)
            torch.autograd.grad(linear(3)(point).sum(), point)

        with torch.enable_grad():
            thread = threading.Thread(target=attack)
            thread.start()
            thread.join()
        return linear(3)(x)

    assert seen(attacked) == (NONE, NONE)


def test_probes_side_by_side_see_each_their_own():
    cases = [Purifying(linear(3)), linear(3)] * 4
    found = parallel.run_all(seen, cases, 8)
    assert found == [(ALL, NONE), (NONE, NONE)] * 4


# --- loops


def test_a_loop_that_hangs_on_the_image_is_seen_where_it_runs_longer():
    """Compared are the second, third and fourth image; the first one may fill a cache, and the least is no loop."""
    times = iter([2, 2, 9, 2, 5, 3])  # labels, the clean run, four images
    assert seen(Shared(lambda _: next(times))) == (NONE, [0, 0, 1, 1, 0, 0])


def test_loops_over_the_content_itself_are_seen():
    autograd, loops = seen(Shared(lambda x: 1 + int(20 * x.std())))
    assert autograd == NONE
    assert any(loops)


@pytest.mark.parametrize("uses", [
    lambda _: 3,  # a weight shared in a fixed number of places
    lambda x: int(x.mean() > 0.5),  # an early exit, or an expert that is not asked
], ids=["fixed", "skipped"])  # fmt: skip
def test_weights_that_are_shared_or_skipped_are_no_loop(uses: Callable[[Tensor], int]):
    assert seen(Shared(uses)) == (NONE, NONE)


# --- ordinary models


@pytest.mark.parametrize("name", ["lenet", "small-resnet"])
def test_models_of_ours_pass(name: str):
    assert seen(models.build(name, 1, 10), (1, 8, 8)) == (NONE, NONE)


def test_a_torchvision_resnet_passes():
    import torchvision

    assert seen(torchvision.models.resnet18(num_classes=10), (3, 32, 32)) == (NONE, NONE)


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning", "ignore:.torch.jit:DeprecationWarning")
def test_torchscript_passes():
    network = nn.Sequential(nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)).eval()
    assert seen(torch.jit.script(network)) == (NONE, NONE)
    assert seen(torch.jit.trace(network, images(2))) == (NONE, NONE)


# --- nothing is changed, nothing raised


def test_one_pass_for_each_of_four_images_and_the_model_is_as_it_was():
    model = Purifying(Shared()).eval()
    ensemble = Ensemble([model])
    split = labelled(ensemble, images(N))
    before, weights = {k: v.clone() for k, v in model.state_dict().items()}, list(model.parameters())
    model.member.calls = 0
    facts_of("forward", ensemble, split)
    assert model.member.calls == 3 * (1 + 4)  # two steps and an answer: of the clean run, and of each image
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(w.grad is None and w.requires_grad for w in weights)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_fewer_images_than_are_tried():
    ensemble = ensemble_of(Purifying(linear(3)))
    found = facts_of("forward", ensemble, labelled(ensemble, images(1)))
    assert {name: values.tolist() for name, values in found.items()} == {
        "looked": [True], "autograd": [True], "loops": [False],
    }  # fmt: skip


@pytest.mark.parametrize("works", [True, False])
def test_a_pass_that_fails_is_not_raised_and_its_autograd_counts(works: bool):
    def one_image_is_too_few(x: Tensor) -> Tensor:
        if works:
            Purifying(linear(3))(x)
        if len(x) < 2:
            raise RuntimeError("a batch of one")
        return linear(3)(x)

    assert seen(one_image_is_too_few) == (ALL if works else NONE, NONE)


# --- the check


def test_the_value_is_the_share_of_the_passes_and_the_advice_can_be_followed():
    looked = [True] * 4 + [False] * 96
    some = {"autograd": [True] + [False] * 99, "loops": [False, True] + [False] * 98}
    checks = judge(about(make(), facts={"forward": probed(looked=looked, **some)}))[1]
    (found,) = [c for c in checks if c["name"] == "static-forward"]
    assert (found["value"], found["threshold"], found["passed"]) == (0.5, 0.0, False)
    assert "run robustkit evaluate --attacks quorum,square --set quorum.restarts=12" in found["advice"]
    asked(EvaluateConfig(attacks="quorum,square", dataset="digits", eot=20))


def test_facts_of_no_pass_say_nothing():
    checks = judge(about(make(), facts={"forward": probed(rows=0, looked=False, autograd=False, loops=False)}))[1]
    assert "static-forward" not in {c["name"] for c in checks}


def test_the_compiler_is_not_loaded_to_look_at_operators(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "_disable_dynamo", lambda *_, **__: pytest.fail("imports torch._dynamo"))
    layer = nn.Linear(3, 2)
    backward, uses = static_forward._watched(layer, torch.ones(1, 3))
    assert (backward, sorted(uses.values())) == (False, [1, 1])

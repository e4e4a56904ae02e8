"""How often a training step makes the host wait for a GPU, and that what does not fit there stays beside it."""

from __future__ import annotations

import pytest
import torch
from accelerator import Accelerator, pretend_cuda

from robustkit import defenses
from robustkit.data import Dataset, Split
from robustkit.records.cells import Spec
from robustkit.training import forward, loop, optim
from robustkit.training.ranks import Ranks
from robustkit.training.samples import Samples
from robustkit.training.spec import TrainSpec
from robustkit.training.step import EpochRunner
from robustkit.training.untrained import accuracies, initialise

GPU = torch.device("cuda:0")
STEPS = 8
LOSSES = ("adp", "baseline", "balanced", "gncl", "ncl", "attribution")  # of one batch, nothing crafted


def runner(name: str, digits: Dataset, **more: object) -> EpochRunner:
    method = defenses.method(name, defenses.defense.entry(name).defaults())
    spec = TrainSpec(Spec("defense", name, dict(method.params) if hasattr(method, "params") else {}), "digits", "",
                     "networks:normed", members=2, batch_size=8, shift=0.1, flip=True, **more)  # fmt: skip
    ensemble = initialise(spec, digits).to(GPU)
    features = "features" in method.facts.get("needs", ())
    return EpochRunner(
        spec, method, ensemble, forward.Forward(ensemble, forward.PLAIN, features),
        optim.optimiser(spec, ensemble.parameters()), Samples.of(digits.split("train").take(8 * STEPS), GPU), None,
        None, Ranks(), lambda: None,
    )  # fmt: skip


def counted(gpu: Accelerator, work: EpochRunner) -> float:
    """Return the waits of a step, the two looks of an epoch (the first loss, the means) among them."""
    work.epoch(0, lambda recent: None)
    gpu.clear()
    work.epoch(1, lambda recent: None)
    return sum(gpu.waits.values()) / work.steps


@pytest.mark.parametrize("name", LOSSES)
def test_a_step_waits_for_nothing(name: str, digits: Dataset):
    with pretend_cuda() as gpu:
        waits = counted(gpu, runner(name, digits))
        assert waits <= 2 / STEPS, gpu.waits.most_common(5)


def test_a_step_of_adabelief_is_a_dozen_launches_for_all_weights(digits: Dataset):
    with pretend_cuda() as gpu:
        work = runner("baseline", digits, optimiser="adabelief")
        assert counted(gpu, work) <= 2 / STEPS
        made = {line: count for line, count in gpu.launches.items() if line.startswith("training/optim.py")}
        assert sum(made.values()) <= 13 * STEPS, made


def test_images_for_which_there_is_no_room_stay_with_the_host_and_are_the_same(digits: Dataset):
    split = digits.split("train").take(64)
    rows = torch.tensor([5, 3, 60])
    with pretend_cuda() as gpu:
        inside = Samples.of(split, GPU)
        assert inside.pixels.is_cuda
        gpu.limit = gpu.live + split.x.nbytes
        beside = Samples.of(split, GPU)
        assert not beside.pixels.is_cuda
        assert beside.y.is_cuda
        gpu.limit = 2**30
        for samples in (inside, beside):
            gpu.clear()
            x, y = samples.batch(rows)
            assert not gpu.waits
            assert x.is_cuda
            assert torch.equal(x.cpu(), split.batch(rows)[1])
            assert torch.equal(y.cpu(), split.y[rows])
        assert torch.equal(beside.images(rows.to(GPU)).cpu(), split.batch(rows)[1])


def test_levels_are_those_of_the_host_though_cuda_multiplies_by_the_reciprocal():
    split = Split(torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16), torch.zeros(1, dtype=torch.int64))
    with pretend_cuda(rounds=True):
        assert torch.equal(Samples.of(split, GPU).images(torch.tensor([0])).cpu(), split.batch([0])[1])
        assert not torch.equal((split.x.to(GPU).float() / 255).cpu(), split.batch([0])[1]), "it does"


def test_a_validation_waits_once(digits: Dataset):
    split = digits.split("validation").take(100)
    with pretend_cuda() as gpu:
        ensemble = runner("baseline", digits).ensemble
        expected = accuracies(ensemble, split)
        gpu.clear()
        assert accuracies(ensemble, split, batch_size=16) == expected
        assert sum(gpu.waits.values()) == 1


def test_the_caller_s_random_numbers_on_a_gpu_are_left_alone(digits: Dataset, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "manual_seed", lambda seed: pytest.fail("seeds the GPUs as well"))
    spec = TrainSpec(Spec("defense", "baseline", {}), "digits", "", "networks:normed", members=1)
    before = torch.random.get_rng_state()
    one, two = initialise(spec, digits), initialise(spec, digits)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one.members[0].network.linear.weight, two.members[0].network.linear.weight)


def test_dropout_forks_the_streams_of_the_device_alone(digits: Dataset, monkeypatch: pytest.MonkeyPatch):
    forked: list[list[torch.device]] = []
    whole = torch.random.fork_rng
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices=None: forked.append(devices) or whole(devices=[]))
    ensemble = initialise(
        TrainSpec(Spec("defense", "baseline", {}), "digits", "", "networks:normed", members=1), digits
    )
    ensemble.add_module("dropout", torch.nn.Dropout(0.5))
    forked.clear()
    with loop._dropout_of_its_own(ensemble, 0, 0):
        assert forked == [[]]
    forked.clear()
    with pretend_cuda(count=2), loop._dropout_of_its_own(ensemble.to("cuda:1"), 0, 0):
        assert forked == [[torch.device("cuda:1")]]

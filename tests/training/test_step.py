"""What a step hands to a defence: made inputs, own batches, outliers; and that an epoch sees every sample."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from robustkit import data, defenses
from robustkit.base.errors import UserError
from robustkit.data import Source, Split
from robustkit.defenses import Loss, Outputs, defense
from robustkit.defenses._terms import summed_cross_entropy
from robustkit.functional.norms import size
from robustkit.records.cells import Spec
from robustkit.training.loop import Training, fit
from robustkit.training.ranks import Ranks
from robustkit.training.samples import Samples
from robustkit.training.spec import TrainSpec

CPU = torch.device("cpu")
PLAIN = TrainSpec(
    Spec("defense", "baseline", {}), "digits", "sha", "networks:normed", members=2, epochs=1, batch_size=64, shift=0.0,
    speed="off",
)  # fmt: skip


@pytest.fixture
def seen() -> Iterator[list[Outputs]]:
    """Register a loss for each kind of batch that keeps what it is given."""
    kept: list[Outputs] = []

    def keep(outputs: Outputs) -> Loss:
        kept.append(outputs)
        return Loss(summed_cross_entropy(outputs.logits, outputs.y, 0.0), {})

    names = {"test-plain": {}, "test-own": {"own_batches": True}, "test-outliers": {"needs": ("outliers", "features")}}
    for name, facts in names.items():
        defense(name, **facts)(_copy(keep))
    yield kept
    for name in names:
        defense.remove(name)


def _copy(function: Callable[[Outputs], Loss]) -> Callable[[Outputs], Loss]:
    return lambda outputs: function(outputs)


def _epoch(digits: data.Dataset, name: str, params=None, outliers=None, **changes) -> Training:
    spec = dataclasses.replace(PLAIN, defense=Spec("defense", name, params or {}), **changes)
    training = Training(spec, digits, outliers, CPU, Ranks())
    training.epoch(lambda recent: None)
    return training


def test_an_epoch_sees_every_sample_once_in_an_order_of_its_own(digits: data.Dataset, seen: list[Outputs]):
    training = _epoch(digits, "test-plain", epochs=2)
    train = digits.split("train")
    first = torch.cat([o.shared.x for o in seen])
    labels = torch.cat([o.y for o in seen])
    assert sorted(map(_key, first)) == sorted(map(_key, train.tensor()))
    assert torch.bincount(labels).tolist() == torch.bincount(train.y).tolist()
    training.epoch(lambda recent: None)
    second = torch.cat([o.shared.x for o in seen[training.work.steps :]])
    assert not torch.equal(first, second)
    assert all(len(o.y) == 64 for o in seen[: training.work.steps - 1])


def _key(image: Tensor) -> bytes:
    return image.numpy().tobytes()


def test_own_batches_differ_by_member_and_the_shared_one_from_all(digits: data.Dataset, seen: list[Outputs]):
    training = _epoch(digits, "test-own")
    steps = training.work.steps
    assert len(seen) == steps
    train = {
        _key(image): int(label)
        for image, label in zip(digits.split("train").tensor(), digits.split("train").y, strict=True)
    }
    for outputs in seen:
        assert outputs.y.shape == outputs.logits.shape[:2]
        assert [train[_key(image)] for image in outputs.shared.x] == outputs.shared.y.tolist()
    members = [torch.cat([o.y[m] for o in seen]) for m in range(2)]
    shared = torch.cat([o.shared.y for o in seen])
    assert not torch.equal(members[0], members[1])
    assert not torch.equal(members[0], shared)
    for labels in (*members, shared):
        assert torch.bincount(labels).tolist() == torch.bincount(digits.split("train").y).tolist()


@pytest.mark.parametrize("name", ["advt-fgsm", "advt-pgd"])
def test_adversarial_training_sees_half_clean_half_within_the_budget(name: str, digits: data.Dataset, seen):
    _epoch(digits, f"test-plain+{name}", {f"{name}.low": 0.03, f"{name}.high": 0.2})
    budgets = []
    for outputs in seen:
        half = len(outputs.y) // 2
        clean, made = outputs.shared.x[:half], outputs.shared.x[half:]
        assert torch.equal(outputs.y[:half], outputs.y[half:])
        assert made.amin() >= 0
        assert made.amax() <= 1
        budgets.append(float(size(made - clean, "linf").amax()))
    assert len(seen[0].y) == 64
    assert 0.03 <= min(budgets) < 0.08
    assert 0.15 < max(budgets) <= 0.2 + 1e-6
    train = {_key(image) for image in digits.split("train").tensor()}
    assert all(_key(image) in train for image in seen[0].shared.x[:32])


def test_adversarial_inputs_are_those_of_the_attack_and_leave_no_trace(digits: data.Dataset):
    training = _epoch(digits, "baseline")
    ensemble = training.ensemble.eval()
    before = ensemble.fingerprint()
    x, y = digits.split("train").tensor()[:32], digits.split("train").y[:32]
    make = defenses.method("advt-fgsm", {"low": 0.1, "high": 0.1}).inputs
    made, labels = make(ensemble, x, y, generator=torch.Generator().manual_seed(0))
    from robustkit import attacks

    expected = attacks.get("fgsm")(ensemble, x, y, eps=0.1, stop_early=False)
    moved = (expected != x).flatten(1).any(1)  # the attack keeps x where that has the higher loss
    assert moved.float().mean() > 0.9
    torch.testing.assert_close(made[32:][moved], expected[moved])
    assert torch.equal(labels, torch.cat([y, y]))
    own, own_labels = defenses.method("de-adv", {"eps": 0.05}).inputs(ensemble, x, y, generator=torch.Generator())
    assert own.shape == (2, 64, 1, 8, 8)
    assert own_labels.shape == (2, 64)
    assert torch.equal(own[0, :32], own[1, :32])
    assert not torch.equal(own[0, 32:], own[1, 32:])
    for index, images in enumerate(own):
        gradient = torch.autograd.grad(_loss(ensemble.members[index], point := x.clone().requires_grad_(), y), point)[0]
        torch.testing.assert_close(images[32:], (x + 0.05 * gradient.sign()).clamp(0, 1))
    assert ensemble.fingerprint() == before
    assert all(p.grad is None for p in ensemble.parameters()) or training  # trained before: gradients may be there


def _loss(member, x: Tensor, y: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(member(x), y, reduction="sum")


def _images(shape: tuple[int, int, int], count: int = 300) -> data.Dataset:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (count, *shape), dtype=np.uint8))
    split = Split(pixels, torch.zeros(count, dtype=torch.int64))
    loaded = data.load("digits")
    return dataclasses.replace(loaded, name="noise", source=Source(("0",), shape, lambda name: split))


def test_outliers_go_through_the_members_with_the_inliers(digits: data.Dataset, seen: list[Outputs]):
    _epoch(digits, "test-outliers", outliers=_images((1, 8, 8)))
    for outputs in seen:
        count = len(outputs.y)
        assert outputs.outliers.shape == (2, count, 10)
        assert outputs.logits.shape == (2, count, 10)
        assert [tuple(f.shape) for f in outputs.features] == [(count, 128)] * 2
    assert not torch.allclose(seen[0].outliers, seen[0].logits)


def test_outliers_of_another_shape_or_none_are_refused(digits: data.Dataset, seen: list[Outputs]):
    with pytest.raises(UserError, match=r"outlier dataset 'noise' has images of shape \(3, 8, 8\), but 'digits' has"):
        _epoch(digits, "test-outliers", outliers=_images((3, 8, 8)))
    with pytest.raises(UserError, match="the defence trains on outliers"):
        _epoch(digits, "test-outliers")


def test_images_stay_as_they_are_stored_until_they_are_needed(digits: data.Dataset):
    samples = Samples.of(_images((1, 8, 8)).split("train"), CPU)
    assert samples.pixels.dtype == torch.uint8
    rows = torch.tensor([3, 5])
    assert torch.equal(samples.images(rows), samples.pixels[rows].float() / 255)
    train = digits.split("train")
    assert torch.equal(Samples.of(train, CPU).images(rows), train.tensor()[rows])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("adp+baseline", "has more than one loss .adp, baseline."),
        ("advt-fgsm+advt-pgd", "has more than one maker of inputs"),
        ("adp+de-adv", "de-adv gives each member images of its own, but adp compares members on the same images"),
        ("adp+nothing", "unknown defense 'nothing'"),
    ],
)
def test_compositions_that_make_no_sense_are_refused(name: str, said: str):
    with pytest.raises(UserError, match=said):
        defense.entry(name)


def test_a_composed_defence_has_the_parameters_of_both_in_either_order():
    one, other = defense.entry("adp+advt-pgd"), defense.entry("advt-pgd+adp")
    assert one.name == other.name == "adp+advt-pgd"
    assert [p.name for p in one.params] == [p.name for p in other.params]
    assert one.defaults()["adp.alpha"] == 2.0
    assert one.defaults()["advt-pgd.steps"] == 10
    method = defenses.method(
        "adp+advt-pgd", {"adp.alpha": 0.0, "adp.beta": 0.0, "advt-pgd.low": 0.2, "advt-pgd.high": 0.2}
    )
    logits, y = torch.randn(2, 4, 10), torch.arange(4)
    torch.testing.assert_close(method.loss(Outputs(logits, y)).total, summed_cross_entropy(logits, y, 0.0))
    assert method.facts["fresh"] == 0.5


def test_an_interval_the_wrong_way_round_is_refused(digits: data.Dataset):
    with pytest.raises(UserError, match="low 0.05 is above high 0.01"):
        fit(dataclasses.replace(PLAIN, defense=Spec("defense", "advt-fgsm", {"low": 0.05, "high": 0.01})), digits)

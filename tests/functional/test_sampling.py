"""Randomness per sample: known properties, and known answers of the hash."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
import torch
from accelerator import pretend_cuda

from robustkit.functional.sampling import SampleGenerator, _mix, _wrap, as_generator, random_targets


def splitmix_finaliser(z: int) -> int:
    """The published finaliser in Python's unbounded integers: an independent reference."""
    mask = (1 << 64) - 1
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def test_hash_equals_the_published_finaliser():
    values = torch.tensor([0, 1, -1, 12345, -(2**63), 2**63 - 1])
    expected = [splitmix_finaliser(v % (1 << 64)) for v in values.tolist()]
    assert [v % (1 << 64) for v in _mix(values).tolist()] == expected


def test_a_sample_draws_the_same_numbers_in_any_batch():
    ids = torch.tensor([5, 9, 2, 7])
    whole, alone = SampleGenerator(1, ids), SampleGenerator(1, ids[2:3])
    for _ in range(3):
        assert torch.equal(whole.uniform((3, 4))[2:3], alone.uniform((3, 4)))
    assert torch.equal(whole.select(torch.tensor([3, 0])).normal((2,)), SampleGenerator_at(1, [7, 5], 3).normal((2,)))


def SampleGenerator_at(seed: int, ids: list[int], draws: int) -> SampleGenerator:
    generator = SampleGenerator(seed, torch.tensor(ids))
    for _ in range(draws):
        generator.bits(())
    return generator


def test_uniform_numbers_are_uniform_and_uncorrelated():
    u = SampleGenerator(0, torch.arange(500)).uniform((400,), -2.0, 3.0)
    n = u.numel()
    assert u.min() >= -2
    assert u.max() < 3
    assert abs(u.mean() - 0.5) < 4 * 5 / math.sqrt(12 * n)
    counts = torch.histc(u, 50, -2, 3)
    assert ((counts - n / 50) ** 2 / (n / 50)).sum() < 90  # chi-square, 49 degrees of freedom: 99.9 % is below 85.4
    assert abs(torch.corrcoef(u[:2])[0, 1]) < 0.2
    assert abs(torch.corrcoef(torch.stack([u[:-1].flatten(), u[1:].flatten()]))[0, 1]) < 0.01


def test_normal_numbers_have_normal_moments():
    z = SampleGenerator(4, torch.arange(300)).normal((500,))
    assert abs(z.mean()) < 0.015
    assert abs(z.std() - 1) < 0.01
    assert abs((z**4).mean() - 3) < 0.15
    assert torch.isfinite(z).all()


def test_seed_stream_and_draw_all_matter():
    ids = torch.arange(4)
    draws = [
        SampleGenerator(0, ids).bits((3,)),
        SampleGenerator(1, ids).bits((3,)),
        SampleGenerator(0, ids, "other").bits((3,)),
        SampleGenerator_at(0, [0, 1, 2, 3], 1).bits((3,)),
    ]
    assert all(not torch.equal(a, b) for i, a in enumerate(draws) for b in draws[:i])


def test_targets_are_never_the_label_and_cover_the_rest_evenly():
    ids, y = torch.arange(9000), torch.arange(9000) % 10
    targets = random_targets(0, ids, y, 10)
    assert (targets != y).all()
    assert ((targets >= 0) & (targets < 10)).all()
    counts = torch.bincount((targets - y) % 10, minlength=10)
    assert counts[0] == 0
    assert (counts[1:] - 1000).abs().max() < 130
    assert torch.equal(random_targets(0, ids[5:6], y[5:6], 10), targets[5:6])
    with pytest.raises(ValueError, match="two classes"):
        random_targets(0, ids, y, 1)


def test_generator_from_whatever_a_caller_gives():
    x = torch.zeros(3, 1, 2, 2)
    assert torch.equal(as_generator(7, x).bits((2,)), SampleGenerator(7, torch.arange(3)).bits((2,)))
    first, second = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    assert torch.equal(as_generator(first, x).bits(()), as_generator(second, x).bits(()))
    assert not torch.equal(as_generator(first, x).bits(()), as_generator(torch.Generator().manual_seed(2), x).bits(()))
    with pytest.raises(ValueError, match="2 samples, the batch has 3"):
        as_generator(SampleGenerator(0, torch.arange(2)), x)


def test_keys_are_sent_to_a_gpu_once():
    draws, same = (SampleGenerator(0, torch.arange(4), "x") for _ in range(2))
    expected = [same.uniform((3,)) for _ in range(3)]
    with pretend_cuda() as gpu:
        made = [draws.uniform((3,), device="cuda") for _ in range(2)] + [draws.uniform((3,))]
        assert made[0].is_cuda
        assert not made[2].is_cuda, "where nobody says otherwise, it is where the keys were"
        assert sum(gpu.copies.values()) == 1
        assert all(torch.equal(a.cpu(), b) for a, b in zip(made, expected, strict=True))
        part = draws.select(torch.tensor([2, 0]).to("cuda"))
        assert torch.equal(part.uniform((3,), device="cuda").cpu(), same.select(torch.tensor([2, 0])).uniform((3,)))


def test_a_number_is_wrapped_as_a_tensor_wraps_it():
    for value in (0, 5, -5, 2**63 - 1, 2**63, 2**63 + 7, -(2**63), -(2**63) - 1, 3 * 0x9E3779B97F4A7C15):
        assert _wrap(value) == int(np.array(value % 2**64, np.uint64).astype(np.int64))


def test_draws_are_the_hash_of_seed_id_draw_and_position():
    """A known answer: what is drawn first, second and by a normal draw, which takes two, from the definition."""
    golden, mask = 0x9E3779B97F4A7C15, (1 << 64) - 1
    name = int.from_bytes(hashlib.sha256(b"3/use").digest()[:8], "big")
    key = splitmix_finaliser(splitmix_finaliser((11 * golden + name) & mask))

    def element(draw: int, position: int) -> int:
        start = splitmix_finaliser((key + draw * golden) & mask)
        return splitmix_finaliser((start + position * golden) & mask)

    generator = SampleGenerator(3, torch.tensor([11]), "use")
    for draw in (1, 2):
        assert [bits % (1 << 64) for bits in generator.bits((3,))[0].tolist()] == [
            element(draw, at) for at in (1, 2, 3)
        ]
    unit = [(element(draw, 1) >> 40) * 2.0**-24 for draw in (3, 4)]
    expected = math.sqrt(-2 * math.log1p(-unit[0])) * math.cos(2 * math.pi * unit[1])
    assert float(generator.normal((1,))) == pytest.approx(expected, abs=1e-6)


def test_a_generator_of_torch_gives_its_next_number_as_the_seed():
    given = torch.Generator().manual_seed(8)
    seed = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(8)))
    x = torch.zeros(4, 1)
    assert torch.equal(as_generator(given, x).bits((2,)), SampleGenerator(seed, torch.arange(4)).bits((2,)))
    assert seed > 2**32


@pytest.mark.parametrize("high", [1, 2, 7, 8, 10])
def test_integers_are_all_that_are_below_equally_often(high: int):
    drawn = SampleGenerator(0, torch.arange(400)).integers(high, (50,))
    counts = torch.bincount(drawn.flatten(), minlength=high)
    assert len(counts) == high
    assert (counts / 20_000 - 1 / high).abs().max() < 0.02

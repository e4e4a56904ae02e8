"""Randomness per sample (seed x sample id), so that no result depends on how samples are batched.

A counter-based generator: every number is a hash of (seed, sample id, number of the draw, position). It runs in
vectorised integer arithmetic on the tensor's own device and gives the same uniform bits on every device. The hash is
the SplitMix64 finaliser (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)  # 64-bit constants as the signed integers that torch.int64 holds
_MIX1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX2 = 0x94D049BB133111EB - (1 << 64)
CACHED = 2**16  # elements made at a time on a CPU


def _wrap(value: int) -> int:
    """Return a Python integer as the int64 that the same arithmetic on a tensor would have given."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift(z, 30)).mul_(_MIX1)
    z = z.bitwise_xor_(_shift(z, 27)).mul_(_MIX2)
    return z.bitwise_xor_(_shift(z, 31))


def _shift(z: Tensor, bits: int) -> Tensor:
    # torch shifts int64 arithmetically: mask the sign bits away for the logical shift that the hash needs.
    return (z >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _unit(bits: Tensor) -> Tensor:
    """Return bits as float32 numbers, uniform in [0, 1)."""
    return _shift(bits, 40).to(torch.float32) * 2.0**-24


class SampleGenerator:
    """A stream of random numbers for each sample of a batch.

    Parameters
    ----------
    seed : int
        The seed of the whole run.
    ids : Tensor of int64, shape (B,)
        Identity of each sample: the same id draws the same numbers in any batch.
    stream : str
        Name of the use, so that two uses of one seed are independent.
    """

    def __init__(self, seed: int, ids: Tensor, stream: str = "") -> None:
        name = int.from_bytes(hashlib.sha256(f"{seed}/{stream}".encode()).digest()[:8], "big", signed=True)
        self._keys = _mix(_mix(ids.to(torch.int64) * _GOLDEN + name))
        self._draws, self._sent = 0, self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def select(self, rows: Tensor) -> SampleGenerator:
        """Return the generator of some of the samples, at the same point of their streams."""
        part = object.__new__(SampleGenerator)
        part._keys, part._draws = self._on(rows.device)[rows], self._draws
        part._sent = part._keys
        return part

    def _on(self, device: torch.device | str) -> Tensor:
        """Return the keys on a device, sent there once: each copy to a GPU would be waited for."""
        wanted, there = torch.device(device), self._sent.device
        if wanted.type != there.type or wanted.index not in (None, there.index):
            self._sent = self._keys.to(device)
        return self._sent

    def bits(self, shape: Sequence[int], device: torch.device | str | None = None) -> Tensor:
        """Draw 64 random bits for each element of ``(B, *shape)``, as int64."""
        return self._drawn(1, shape, device, torch.int64, lambda bits: bits)

    def uniform(
        self, shape: Sequence[int], low: float = 0.0, high: float = 1.0, device: torch.device | str | None = None
    ) -> Tensor:
        """Draw float32 numbers, uniform in [low, high), of shape ``(B, *shape)``."""
        return self._drawn(1, shape, device, torch.float32, lambda bits: low + (high - low) * _unit(bits))

    def normal(self, shape: Sequence[int], device: torch.device | str | None = None) -> Tensor:
        """Draw standard normal float32 numbers of shape ``(B, *shape)`` (Box-Muller)."""

        def normal(first: Tensor, second: Tensor) -> Tensor:
            return torch.sqrt(-2.0 * torch.log1p(-_unit(first))) * torch.cos(2.0 * math.pi * _unit(second))

        return self._drawn(2, shape, device, torch.float32, normal)

    def _drawn(
        self,
        draws: int,
        shape: Sequence[int],
        device: torch.device | str | None,
        dtype: torch.dtype,
        make: Callable[..., Tensor],
    ) -> Tensor:
        """Return ``make`` of so many draws of bits; on a CPU a few rows at a time, so that they stay in its cache."""
        keys = self._on(device) if device is not None else self._keys
        count = math.prod(shape)
        position = torch.arange(1, count + 1, device=keys.device) * _GOLDEN
        starts = [_mix(keys + _wrap((self._draws + 1 + i) * _GOLDEN)) for i in range(draws)]
        self._draws += draws
        made = torch.empty(len(keys), count, dtype=dtype, device=keys.device)
        rows = max(1, CACHED // max(1, count)) if keys.device.type == "cpu" else len(keys)
        for at in range(0, len(keys), max(1, rows)):
            part = slice(at, at + rows)
            made[part] = make(*(_mix(start[part, None] + position) for start in starts))
        return made.view(len(keys), *shape)

    def integers(
        self, high: int | Tensor, shape: Sequence[int] = (), device: torch.device | str | None = None
    ) -> Tensor:
        """Draw int64 numbers, uniform in [0, high), of shape ``(B, *shape)``; ``high`` may differ per element."""
        whole = _shift(self.bits(shape, device), 1)
        if isinstance(high, int) and high & (high - 1) == 0:  # a mask is faster than a remainder
            return whole.bitwise_and_(high - 1)
        return whole % high


def as_generator(generator: SampleGenerator | torch.Generator | int | None, x: Tensor) -> SampleGenerator:
    """Return the per-sample generator for a batch from whatever a caller gave.

    A :class:`torch.Generator` gives its next number as the seed, an int is the seed, None means seed 0; the position
    in the batch then serves as the sample's id.
    """
    if isinstance(generator, SampleGenerator):
        if len(generator) != len(x):
            raise ValueError(f"the generator is for {len(generator)} samples, the batch has {len(x)}")
        return generator
    seed = 0 if generator is None else generator
    if isinstance(seed, torch.Generator):
        seed = int(torch.randint(2**62, (), generator=seed, device=seed.device))
    return SampleGenerator(seed, torch.arange(len(x), device=x.device))


def random_targets(seed: int, ids: Tensor, y: Tensor, classes: int) -> Tensor:
    """Draw for each sample a label other than its own, uniformly and by its id; int64 (B,)."""
    if classes < 2:
        raise ValueError("a target label needs at least two classes")
    offset = SampleGenerator(seed, ids, "target").integers(classes - 1, device=y.device)
    return (y + 1 + offset) % classes

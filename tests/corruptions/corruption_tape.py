"""A generator that remembers what was drawn, so that a reference can use the same random numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustkit.functional.sampling import SampleGenerator


class Tape(SampleGenerator):
    def __init__(self, seed: int, n: int) -> None:
        super().__init__(seed, torch.arange(n), "tape")
        self.drawn: list[np.ndarray] = []
        self.calls: list[tuple[str, tuple[Any, ...]]] = []  # what was asked for, without the device
        self._depth = 0

    def _call(self, name: str, *args: Any, **kwargs: Any) -> Tensor:
        self._depth += 1  # one kind of number is made of another; only what was asked for counts
        try:
            value = getattr(SampleGenerator, name)(self, *args, **kwargs)
        finally:
            self._depth -= 1
        if self._depth == 0:
            self.drawn.append(value.numpy())
            self.calls.append((name, tuple(arg for arg in args if not isinstance(arg, torch.device))))
        return value

    def bits(self, *args: Any, **kwargs: Any) -> Tensor:
        return self._call("bits", *args, **kwargs)

    def uniform(self, *args: Any, **kwargs: Any) -> Tensor:
        return self._call("uniform", *args, **kwargs)

    def normal(self, *args: Any, **kwargs: Any) -> Tensor:
        return self._call("normal", *args, **kwargs)

    def integers(self, *args: Any, **kwargs: Any) -> Tensor:
        return self._call("integers", *args, **kwargs)

    def of(self, row: int) -> Iterator[np.ndarray]:
        """Yield what was drawn for one sample, in order; whole numbers and floats in double precision."""
        for value in self.drawn:
            one = value[row]
            yield one.astype(np.float64) if one.dtype == np.float32 else one

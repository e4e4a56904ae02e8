"""Options of what is proven of a model rather than tried on it, each stated once. Never imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from robustkit.base.configuration import Configuration
from robustkit.base.option import Option


@dataclass(frozen=True, kw_only=True)
class Proofs(Configuration):
    """Suites."""

    certify_n: Annotated[
        int,
        Option(
            "Samples that are certified or smoothed, the first of them.", least=1, suites=("certified", "smoothing")
        ),
    ] = 200
    sigma: Annotated[
        float, Option("Standard deviation of the noise of smoothing, in pixels of [0, 1].", suites=("smoothing",))
    ] = 0.25
    smoothing_draws: Annotated[
        int, Option("Noisy images of each sample that smoothing counts.", least=10, suites=("smoothing",))
    ] = 1000

"""What ``results.json`` says of which attack earned its keep. Never imports torch."""

from __future__ import annotations

from typing import Any, TypedDict


class Optimality(TypedDict):
    """How much of what all attacks in a norm took from an ensemble one attack took by itself, in [0, 1].

    The area between clean accuracy and the attack's curve, over that between clean accuracy and the pointwise best of
    everything that ran in the norm, up to ``up_to``: of an attack that looks for the smallest perturbation over
    distances, up to the largest of the best ones; of one with a budget, over the ``eps`` of the run, by the trapezoidal
    rule (``eps`` is empty for the former). ``forwards`` and ``backwards`` are passes for each attacked sample, of all
    budgets together.
    """

    ensemble: str
    attack: str
    backend: str
    params: dict[str, Any]
    norm: str
    targeted: bool
    eps: list[float]
    up_to: float
    optimality: float
    forwards: float
    backwards: float

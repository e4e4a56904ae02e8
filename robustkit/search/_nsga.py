"""NSGA-II over whole numbers, through pymoo (extra ``search``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from robustkit.base.errors import UserError
from robustkit.base.installing import install_command


def require() -> None:
    """Raise a :class:`UserError` that says how pymoo is installed, where it is missing."""
    try:
        import pymoo  # noqa: F401
    except ImportError:
        # Cause: subnetworks are found by NSGA-II, which is pymoo's, and pymoo is in an extra.
        raise UserError(
            f"search 'supernet' needs pymoo for NSGA-II; install it with: {install_command('search')}"
        ) from None


def minimise(
    objectives: Callable[[list[int]], Sequence[float]], highest: Sequence[int], *, start: Sequence[Sequence[int]],
    evaluations: int, population: int, seed: int,
) -> None:  # fmt: skip
    """Minimise several numbers of vectors of whole numbers from 0 to ``highest`` by NSGA-II (Deb et al. 2002).

    Nothing is returned: who gives the objectives sees every vector, and the front is that of all it has seen.

    Parameters
    ----------
    objectives : callable
        From a vector to its numbers.
    start : sequence of vectors
        Members of the first population; the rest of it is drawn.
    """
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import ElementwiseProblem
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.optimize import minimize

    class Problem(ElementwiseProblem):  # type: ignore[misc, unused-ignore]
        def _evaluate(self, x: Any, out: dict[str, Any], *_: Any, **__: Any) -> None:
            out["F"] = list(objectives([int(value) for value in x]))

    first = np.random.default_rng(seed).integers(0, np.asarray(highest) + 1, (population, len(highest)))
    first[: len(start)] = np.asarray(start)[:population]
    algorithm = NSGA2(
        pop_size=population, sampling=first, eliminate_duplicates=True,
        crossover=SBX(prob=0.9, eta=3.0, vtype=float, repair=RoundingRepair()),
        mutation=PM(eta=3.0, vtype=float, repair=RoundingRepair()),
    )  # fmt: skip
    problem = Problem(n_var=len(highest), n_obj=2, xl=0, xu=np.asarray(highest), vtype=int)
    minimize(problem, algorithm, ("n_evals", evaluations), seed=seed, verbose=False)


def front(points: Sequence[Sequence[float]]) -> list[int]:
    """Return which points no other one beats in one number without losing in another, in their order."""
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    return sorted(int(i) for i in NonDominatedSorting().do(np.asarray(points, float), only_non_dominated_front=True))

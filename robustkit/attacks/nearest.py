"""The nearest of what several minimum-norm attacks find, in four norms."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from torch import Tensor

from robustkit.attacks import attack
from robustkit.attacks._ascent import Generator, Model
from robustkit.attacks._boundary import begun
from robustkit.attacks._parts import Part, fork, forward
from robustkit.attacks.ddn import ddn
from robustkit.attacks.ead import ead
from robustkit.attacks.fab import fab
from robustkit.attacks.fmn import fmn
from robustkit.attacks.pdpgd import pdpgd
from robustkit.attacks.sigma_zero import sigma_zero
from robustkit.functional.sampling import as_generator
from robustkit.functional.trace import Trace

THRESHOLD = 0.1  # of the second run of sigma-zero, whose path is another then
WIDE = 0.2  # step size of a second run of PDPGD in l0 and l1
EAD_MORE = 5, 3  # steps of EAD for so many of the others: it is done soonest, and nearer with more
FAB_SHARE = 6  # one step of FAB towards each of its targets for so many of the others


@attack(
    "nearest",
    norms=("l2", "linf", "l1", "l0"),
    budget="minimum",
    iterative=True,
    family="smallest",
    source="the attacks that it runs; best of several: Cina et al. 2024, arXiv:2404.19460",
)
def nearest(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    steps: int = 300,
    targets: int = 9,
    norm: Literal["l2", "linf", "l1", "l0"] = "l2",
    targeted: bool = False,
    generator: Generator = None,
    trace: Trace | None = None,
) -> Tensor:
    """Nearest of several: what is closest to each image of the results of three to five minimum-norm attacks.

    l2: DDN, PDPGD, FMN, FAB. linf: PDPGD, FMN, FAB. l1: PDPGD with two step sizes, EAD by the rule L1, FMN. l0:
    sigma-zero from two thresholds, PDPGD with two step sizes, FMN. None of them is the nearest everywhere; how near one
    alone comes to the pointwise best of all is its optimality (AttackBench, Cina et al. 2024, section 3), which
    ``benchmarks/optimality.py`` measures.

    Parameters
    ----------
    model : callable
        x (B, C, H, W) in [0, 1] to logits or log-probabilities (B, L).
    x, y : Tensor
        Images, and true labels (B,) or, if ``targeted``, target labels.
    steps : int
        Iterations of each attack, two thirds more of each search of EAD, and a sixth towards each target of FAB.
    targets : int
        Target classes of FAB, the most likely first; at most L - 1.
    generator : SampleGenerator, torch.Generator, int or None
        Source of everything random.

    Returns
    -------
    Tensor
        The adversarial images of smallest perturbation found, shape and dtype of x; x itself where none was found.

    Raises
    ------
    FloatingPointError
        If a gradient is not finite.
    """
    x = x.detach()
    trace, draws = trace or Trace(len(x)), as_generator(generator, x)
    found, _ = begun(model, x, y, norm, targeted, trace)
    for name, craft in _stages(norm, steps, targets).items():
        rows = found.standing(1.0 if norm == "l0" else 0.0)
        if len(rows) == 0:
            break
        made = craft(
            model, x[rows], y[rows], targeted=targeted, generator=fork(draws, rows, name), trace=Part(trace, rows)
        )
        found.update(rows, made, forward(model, made, rows, trace))
    return found.x


def _stages(norm: str, steps: int, targets: int) -> dict[str, Callable[..., Tensor]]:
    """Return the attacks of a norm by the name of their random stream, those first that find something soonest."""
    given: dict[str, Any] = {"steps": steps, "norm": norm}
    dual, fast = partial(pdpgd, **given), partial(fmn, **given)
    if norm == "l0":
        sparse = partial(sigma_zero, steps=steps)
        again = partial(sparse, threshold=THRESHOLD)
        wide = partial(dual, step_size=WIDE)
        return {"sigma-zero": sparse, "sigma-zero-again": again, "pdpgd-wide": wide, "pdpgd": dual, "fmn": fast}
    if norm == "l1":
        elastic = partial(ead, steps=steps * EAD_MORE[0] // EAD_MORE[1], decision_rule="L1")
        return {"pdpgd": dual, "pdpgd-wide": partial(dual, step_size=WIDE), "ead": elastic, "fmn": fast}
    along = partial(fab, **{**given, "steps": max(1, steps // FAB_SHARE), "targets": targets})
    first = {"ddn": partial(ddn, steps=steps)} if norm == "l2" else {}
    return {**first, "pdpgd": dual, "fmn": fast, "fab": along}

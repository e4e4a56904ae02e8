"""EdgeNES: one optimum, and a hypernetwork that draws architectures with a given number of its edges."""

from __future__ import annotations

from typing import Any

from robustkit.base.errors import UserError
from robustkit.base.options import at_least
from robustkit.search import method
from robustkit.search._alternate import Rates, alternate
from robustkit.search._around import TEMPERATURE, WEIGHT, Around, Dial, Ramp
from robustkit.search._hypernetwork import Hypernetwork, strata
from robustkit.search._lab import Found, SearchLab, enough, found
from robustkit.search._space import Space
from robustkit.search.darts import searched

DRAWS, SAMPLES = 4001, 4002  # streams: of the candidates, of what the dial gives
CHECKED = 500  # architectures drawn at each whole lambda to see what the dial gives


@method("edgenes", source="EdgeNES, chapters 2 to 4")
def edgenes(
    lab: SearchLab, *, epochs: int = 50, hyper_share: float = 0.7, candidates: int = 6, lam: float | None = None,
    pivots: int = 5, margin: float = 0.2, draws: int = 32, tau: float = 0.99, warm_weight: bool = True,
    warm_temperature: bool = True, nodes: int = 6, batch_size: int = 64, lr: float = 0.025,
    architecture_lr: float = 0.02, hyper_lr: float = 0.1, partial: int = 4, width: int = 16, cells: int = 2,
) -> list[Found]:  # fmt: skip
    """One search, then a hypernetwork around its optimum, whose lambda says how many edges a candidate shares with it.

    EdgeNES, algorithm 1. DARTS finds alpha* (eq. 1.1). A piecewise-linear hypernetwork from lambda to architecture
    parameters is trained on eq. 2.3, the cross-entropy plus c (lambda - <alpha*, GS(alpha(lambda))>)^2, weights and
    hypernetwork in turns; the weights go on from where DARTS left them. Candidates are drawn over lambda.

    Deviations from the paper: eq. 2.2 is mended (:class:`Hypernetwork`), a shared edge is a pair of parent and
    operation (:func:`softened`), the regulariser is a mean over ``draws`` lambdas at each step where the paper has one,
    and the hypernetwork begins at the vector that DARTS found, so that 35 epochs suffice where the paper has 150: with
    one lambda a step they do not reach the end Lambda. The lambdas of candidates are one in each of as many equal parts
    of [0, Lambda].

    Parameters
    ----------
    epochs : int
        Of the search for the optimum.
    hyper_share : float
        The epochs of the hypernetwork's training, as a share of those: at 0.7 both cost 0.57 of three searches.
    candidates : int
        Architectures that are drawn and trained from scratch; at least as many as members.
    lam : float or None
        Edges that every candidate shares with the optimum, in [0, Lambda]; None: over the whole range.
    pivots, margin, draws, tau
        Of the hypernetwork and its regulariser (:class:`Hypernetwork`, :class:`Dial`).
    warm_weight, warm_temperature : bool
        Whether c goes up from .3 to 3, and the temperature down from 1 to .05; else each has its last value throughout.
    lr, architecture_lr, hyper_lr : float
        Learning rates of the weights, of DARTS's vector and of the hypernetwork.

    Raises
    ------
    UserError
        If there are more members than candidates, or ``lam`` is outside [0, Lambda].
    """
    space = Space(nodes)
    enough(lab, candidates, "edgenes")
    check(space, lam=lam, pivots=pivots, draws=draws, margin=margin, tau=tau, hyper_share=hyper_share)
    around = trained(
        lab, epochs=epochs, hyper_share=hyper_share, pivots=pivots, margin=margin, draws=draws, tau=tau,
        warm_weight=warm_weight, warm_temperature=warm_temperature, nodes=nodes, batch_size=batch_size, lr=lr,
        architecture_lr=architecture_lr, hyper_lr=hyper_lr, partial=partial, width=width,
    )  # fmt: skip
    generator = lab.generator(DRAWS)
    lams = [lam] * candidates if lam is not None else strata(candidates, space.length, generator)
    drawn = around.candidates(lams, generator)
    given = calibration(lab, around)
    return [
        found(
            f"edgenes-{at}", genotype, cells=cells, width=width,
            facts={
                "lambda": lams[at], "shared_edges": genotype.shared(around.optimum), "optimum": str(around.optimum),
                "sampled_shared_edges": given,
            },
        )
        for at, genotype in enumerate(drawn)
    ]  # fmt: skip


def check(
    space: Space, *, lam: float | None, pivots: int, draws: int, margin: float, tau: float, hyper_share: float
) -> None:
    """Raise a :class:`UserError` if lambda or the hypernetwork cannot be as asked."""
    if lam is not None:
        space.check_count(lam, "edgenes.lam")
    at_least("edgenes.pivots", pivots, 2)
    at_least("edgenes.draws", draws, 1)
    at_least("edgenes.margin", margin, 0)
    at_least("edgenes.hyper_share", hyper_share, 0)
    if not 0.5 < tau <= 1:
        raise UserError(f"edgenes.tau {tau:g} is not in (0.5, 1]; 1 is an optimum that is not softened.")


def trained(
    lab: SearchLab, *, epochs: int, hyper_share: float, pivots: int, margin: float, draws: int, tau: float,
    warm_weight: bool, warm_temperature: bool, nodes: int, batch_size: int, lr: float, architecture_lr: float,
    hyper_lr: float, partial: int, width: int, name: str = "hypernetwork",
) -> Around:  # fmt: skip
    """Search the optimum, and train a hypernetwork around it; parameters as of :func:`edgenes`.

    ``name`` is the phase's: of several hypernetworks around one optimum, which.
    """
    space = Space(nodes)
    best = searched(
        lab, "optimum", space, epochs=epochs, batch_size=batch_size, rates=Rates(lr, architecture_lr), partial=partial,
        width=width,
    )  # fmt: skip
    hypernetwork = Hypernetwork(space.size, space.length, pivots, start=best.vector, generator=lab.generator(DRAWS, 1))
    weight = Ramp(WEIGHT.first if warm_weight else WEIGHT.last, WEIGHT.last)
    temperature = Ramp(TEMPERATURE.first if warm_temperature else TEMPERATURE.last, TEMPERATURE.last)
    around = Around(space, best.genotype, hypernetwork, Dial(weight, temperature, margin, draws, tau))
    alternate(
        lab, name, best.network, hypernetwork, around, epochs=max(1, round(hyper_share * epochs)),
        batch_size=batch_size, rates=Rates(lr, hyper_lr),
    )  # fmt: skip
    return around


def calibration(lab: SearchLab, around: Around) -> list[dict[str, float]]:
    """Return the mean and standard deviation of the shared edges drawn at each whole lambda (figure 3.1)."""
    generator = lab.generator(SAMPLES)
    rows = []
    for lam in range(around.space.length + 1):
        drawn: Any = around.sampled(float(lam), CHECKED, generator)
        rows.append({"lambda": float(lam), "mean": float(drawn.mean()), "deviation": float(drawn.std())})
    return rows

"""EdgeNES: one optimum, and a hypernetwork that draws architectures with a given number of its edges."""

from __future__ import annotations

from typing import Any

from robustkit.base.errors import UserError
from robustkit.base.options import at_least
from robustkit.search import method
from robustkit.search._alternate import Rates, alternate
from robustkit.search._around import Around, Dial, Ramp
from robustkit.search._hypernetwork import Hypernetwork, strata
from robustkit.search._lab import Found, SearchLab, found
from robustkit.search._space import Space
from robustkit.search.darts import searched

DRAWS, SAMPLES = 4001, 4002  # streams: of the candidates, of what the dial gives
CHECKED = 500  # architectures drawn at each whole lambda to see what the dial gives


@method("edgenes", source="EdgeNES, chapters 2 to 4")
def edgenes(
    lab: SearchLab, *, epochs: int = 50, hyper_epochs: int = 35, candidates: int = 6, lam: float | None = None,
    pivots: int = 5, margin: float = 0.2, draws: int = 16, tau: float = 0.99, warm_weight: bool = True,
    warm_temperature: bool = True, nodes: int = 6, batch_size: int = 64, lr: float = 0.025,
    architecture_lr: float = 0.02, hyper_lr: float = 0.05, partial: int = 4, width: int = 16, cells: int = 2,
) -> list[Found]:  # fmt: skip
    """One search, then a hypernetwork around its optimum, whose lambda says how many edges a candidate shares with it.

    EdgeNES, algorithm 1. DARTS finds alpha* (eq. 1.1). A piecewise-linear hypernetwork from lambda to architecture
    parameters is trained on eq. 2.3, the cross-entropy plus c (lambda - <alpha*, GS(alpha(lambda))>)^2, weights and
    hypernetwork in turns; the weights go on from where DARTS left them. Candidates are drawn over lambda.

    Deviations from the paper: eq. 2.2 is mended (:class:`Hypernetwork`), a shared edge is a pair of parent and
    operation (:func:`softened`), the regulariser is a mean over ``draws`` lambdas at each step where the paper has one,
    and the hypernetwork begins at the vector that DARTS found, so that 35 epochs instead of 150 suffice: with one
    lambda a step they do not reach the end Lambda. The lambdas of candidates are one in each of as many equal parts of
    [0, Lambda].

    Parameters
    ----------
    epochs, hyper_epochs : int
        Of the search for the optimum, and of the hypernetwork's training.
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
    check(space, lab.members, candidates=candidates, lam=lam, pivots=pivots, draws=draws, margin=margin, tau=tau)
    dial = Dial(
        Ramp(0.3 if warm_weight else 3.0, 3.0), Ramp(1.0 if warm_temperature else 0.05, 0.05), margin, draws, tau
    )
    around = search(
        lab, space, dial, epochs=epochs, hyper_epochs=hyper_epochs, pivots=pivots, batch_size=batch_size,
        rates=Rates(lr, architecture_lr), hyper_lr=hyper_lr, partial=partial, width=width,
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
    space: Space, members: int, *, candidates: int, lam: float | None, pivots: int, draws: int, margin: float,
    tau: float,
) -> None:  # fmt: skip
    """Raise a :class:`UserError` if candidates or hypernetwork cannot be as asked."""
    if candidates < members:
        raise UserError(
            f"{members} members cannot be chosen of {candidates} candidates; give --set edgenes.candidates={members} "
            "or more."
        )
    if lam is not None and not 0 <= lam <= space.length:
        raise UserError(
            f"edgenes.lam {lam:g} is outside [0, {space.length}], the edges that an architecture can share; give a "
            "number in it."
        )
    at_least("edgenes.pivots", pivots, 2)
    at_least("edgenes.draws", draws, 1)
    at_least("edgenes.margin", margin, 0)
    if not 0.5 < tau <= 1:
        raise UserError(f"edgenes.tau {tau:g} is not in (0.5, 1]; 1 is an optimum that is not softened.")


def search(
    lab: SearchLab, space: Space, dial: Dial, *, epochs: int, hyper_epochs: int, pivots: int = 5, batch_size: int = 64,
    rates: Rates, hyper_lr: float = 0.05, partial: int = 4, width: int = 16,
) -> Around:  # fmt: skip
    """Search the optimum, and train a hypernetwork around it; parameters as of :func:`edgenes`."""
    best = searched(
        lab, "darts", space, epochs=epochs, batch_size=batch_size, rates=rates, partial=partial, width=width
    )
    hypernetwork = Hypernetwork(space.size, space.length, pivots, start=best.vector, generator=lab.generator(DRAWS, 1))
    around = Around(space, best.genotype, hypernetwork, dial)
    alternate(
        lab, "hypernetwork", best.network, hypernetwork, around, epochs=hyper_epochs, batch_size=batch_size,
        rates=Rates(rates.weights, hyper_lr, rates.betas),
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

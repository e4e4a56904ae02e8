"""DARTS once for each member: what searches of ensembles are compared with."""

from __future__ import annotations

from robustkit.search import method
from robustkit.search._alternate import Rates
from robustkit.search._lab import Found, SearchLab, enough, found
from robustkit.search._space import Space
from robustkit.search.darts import optimum


@method("darts-ensemble", source="EdgeNES 4.2, table 3: DartsEns")
def darts_ensemble(
    lab: SearchLab, *, candidates: int | None = None, epochs: int = 50, nodes: int = 6, batch_size: int = 64,
    lr: float = 0.025, architecture_lr: float = 0.02, partial: int = 4, width: int = 16, cells: int = 2,
) -> list[Found]:  # fmt: skip
    """As many searches as members, each from other weights and architecture parameters.

    Parameters
    ----------
    candidates : int or None
        How many searches, where the members are to be chosen out of more; None: one for each member.
    """
    count = lab.members if candidates is None else candidates
    enough(lab, count, "darts-ensemble")
    space, made = Space(nodes), []
    for at in range(count):
        best = optimum(
            lab, f"darts-{at}", space, epochs=epochs, batch_size=batch_size, rates=Rates(lr, architecture_lr),
            partial=partial, width=width, start=at,
        )  # fmt: skip
        made.append(found(f"darts-{at}", best, cells=cells, width=width))
    return made

"""The optimum of DARTS with some of its edges replaced at random."""

from __future__ import annotations

import torch

from robustkit.models._genotype import Genotype
from robustkit.search import method
from robustkit.search._alternate import Rates
from robustkit.search._lab import Found, SearchLab, enough, found
from robustkit.search._space import Space
from robustkit.search.darts import optimum

STREAM = 3003


@method("random-deviation", source="EdgeNES 4.1, table 3: RandomD-NES")
def random_deviation(
    lab: SearchLab, *, candidates: int = 6, replaced: int | None = None, epochs: int = 50, nodes: int = 6,
    batch_size: int = 64, lr: float = 0.025, architecture_lr: float = 0.02, partial: int = 4, width: int = 16,
    cells: int = 2,
) -> list[Found]:  # fmt: skip
    """One search, then its optimum with some edges replaced at random.

    Parameters
    ----------
    replaced : int or None
        How many edges of each candidate differ from the optimum's, at most Lambda = nodes - 3; None: drawn for each
        candidate out of 0 to Lambda. The paper counts those that are shared: Lambda less this number.
    """
    space, generator = Space(nodes), lab.generator(STREAM)
    if replaced is not None:
        space.check_count(replaced, "random-deviation.replaced")
    enough(lab, candidates, "random-deviation", space.deviations(replaced))
    best = optimum(
        lab, "darts", space, epochs=epochs, batch_size=batch_size, rates=Rates(lr, architecture_lr), partial=partial,
        width=width,
    )  # fmt: skip

    def draw() -> Genotype:
        count = replaced if replaced is not None else int(torch.randint(space.length + 1, (), generator=generator))
        return space.deviation(best, count, generator)

    every = space.distinct(candidates, draw)
    return [
        found(f"deviation-{at}", one, cells=cells, width=width, facts={"shared": one.shared(best)})
        for at, one in enumerate(every)
    ]

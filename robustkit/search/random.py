"""Random architectures: what a search has to beat."""

from __future__ import annotations

from robustkit.search import method
from robustkit.search._lab import Found, SearchLab, enough, found
from robustkit.search._space import Space

STREAM = 3002


@method("random", source="EdgeNES table 3: Random, Random-NES")
def random(lab: SearchLab, *, candidates: int = 6, nodes: int = 6, width: int = 16, cells: int = 2) -> list[Found]:
    """Architectures drawn with the same probability out of all; no search.

    Of the candidates, which differ, the best subset is chosen as for any method (Random-NES); as many candidates as
    members are the paper's Random.
    """
    space, generator = Space(nodes), lab.generator(STREAM)
    enough(lab, candidates, "random", space.deviations(None))
    space.check(lab.shape)
    drawn = space.distinct(candidates, lambda: space.random(generator))
    return [found(f"random-{at}", one, cells=cells, width=width) for at, one in enumerate(drawn)]

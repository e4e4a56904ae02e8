"""Networks of one discrete cell, as `robustkit search` finds them: ``--arch genotype:FILE``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robustkit.base.options import at_least
from robustkit.models import model
from robustkit.models._cell import Cell, CellNetwork
from robustkit.models._genotype import PLAIN, from_json
from robustkit.models._residual import he_initialise


@model("genotype", source="arXiv:1806.09055, the space of EdgeNES")
def genotype(
    *, channels: int, classes: int, genotype: Mapping[str, Any] | None = None, cells: int = 2, width: int = 16
) -> CellNetwork:
    """Cells of a searched architecture, genotype:FILE; without a file three separable 3x3 convolutions in a row.

    Parameters
    ----------
    genotype : mapping
        As :meth:`robustkit.models._genotype.Genotype.to_json` gives it.
    cells, width : int
        How many cells, and the channels of the first one's nodes; those of the others are twice as many.
    """
    at_least("cells", cells, 1)
    at_least("width", width, 1)
    found = PLAIN if genotype is None else from_json(genotype)
    made = [Cell(found, width if at == 0 else 2 * width) for at in range(cells)]
    network = CellNetwork(made, len(found.parents), channels, classes, width)
    he_initialise(network)
    return network

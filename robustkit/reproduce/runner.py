"""Repeat a published table or figure: the one function that the command line and Python call."""

from __future__ import annotations

from robustkit.base.configuration import takes
from robustkit.base.progress import Reporter
from robustkit.evaluation import executors
from robustkit.reproduce import get
from robustkit.reproduce._ask import check
from robustkit.reproduce._lab import Lab
from robustkit.reproduce._write import Reproduced, write
from robustkit.study.config import ReproduceConfig


@takes(ReproduceConfig)
def reproduce(config: ReproduceConfig) -> Reproduced:
    """Train what is missing, evaluate, and write the paper's numbers beside ours with the settings that differ.

    The same call goes on where an interrupted one was killed: finished trainings, epochs and cells are not repeated.
    Scale ``paper``: architecture, epochs and images of the paper. ``small``: a small architecture, about 2,000 steps of
    the optimiser and a few hundred images; all else as in the paper.

    Returns
    -------
    Reproduced
        What ``reproduction.json`` holds, as ``to_json()``, and the figures.

    Raises
    ------
    UserError
        On bad input, before any work is done.
    RunError
        If something fails while running; what finished is kept.
    """
    ask = check(config)
    lab = Lab(ask, config.reporter or Reporter())
    with executors.opened(lab.executor, lab.reporter):
        outcome = get(ask.entry.name)(lab)
    done = Reproduced(ask, outcome, lab.differences, lab.evaluations)
    write(done)
    return done

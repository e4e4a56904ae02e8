"""Repeat a published table or figure: the one function that the command line and Python call."""

from __future__ import annotations

from pathlib import Path

from robustkit.base.progress import Reporter
from robustkit.pipeline.request import Settings
from robustkit.reproduce import get
from robustkit.reproduce._ask import check
from robustkit.reproduce._lab import Lab
from robustkit.reproduce._write import Reproduced, write


def reproduce(
    name: str,
    *,
    dataset: str | None = None,
    stands_for: str | None = None,
    data_dir: str | Path | None = None,
    download: bool = False,
    budget: str = "small",
    epochs: int | None = None,
    n: int | None = None,
    arch: str | None = None,
    settings: Settings = None,
    seed: int = 0,
    device: str = "auto",
    workers: int | None = None,
    out: str | Path | None = None,
    reporter: Reporter | None = None,
) -> Reproduced:
    """Train what is missing, evaluate, and write the paper's numbers beside ours with the settings that differ.

    The same call goes on where an interrupted one was killed: finished trainings, epochs and cells are not repeated.

    Parameters
    ----------
    name : str
        A registered name: ``robustkit list reproductions``.
    dataset : str
        What to train and evaluate on; by default the first of the paper's.
    stands_for : str
        Whose column of the paper it is compared with, where ``dataset`` is not one of the paper's.
    budget : {"small", "paper"}
        ``paper``: architecture, epochs and images of the paper. ``small``: a small architecture, about 2,000 steps of
        the optimiser and a few hundred images; all else as in the paper.
    epochs, n, arch
        Instead of the budget's; ``n`` test images, never more than the paper's.
    settings : list of str or mapping
        Parameters like ``["train.lr=1e-3", "pgd.steps=50"]``.

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
    ask = check(
        name, dataset=dataset, stands_for=stands_for, budget=budget, epochs=epochs, n=n, arch=arch, settings=settings,
        data_dir=data_dir, download=download, device=device, workers=workers, seed=seed, out=out,
    )  # fmt: skip
    lab = Lab(ask, reporter or Reporter())
    outcome = get(name)(lab)
    done = Reproduced(ask, outcome, lab.differences, lab.evaluations)
    write(done)
    return done

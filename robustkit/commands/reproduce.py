"""``robustkit reproduce``: options to :mod:`robustkit.reproduce`; nothing else. Never imports torch by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from robustkit.commands.options import Arch, DataDir, Device, Download, Seed, Set


def reproduce(
    name: Annotated[str, typer.Argument(help="A table or figure (see `robustkit list reproductions`).")],
    dataset: Annotated[
        str | None, typer.Option(help="mnist, cifar10, ..., or other data with --as.", show_default="the paper's first")
    ] = None,
    stands_for: Annotated[
        str | None, typer.Option("--as", help="Whose column of the paper other data is compared with, like mnist.")
    ] = None,
    data_dir: DataDir = None,
    download: Download = False,
    budget: Annotated[
        str, typer.Option(help="small: a small net, few epochs, a few hundred images; paper: the paper's own settings.")
    ] = "small",
    epochs: Annotated[int | None, typer.Option(help="Training epochs, instead of the budget's.")] = None,
    n: Annotated[int | None, typer.Option(help="Test images, instead of the budget's; at most the paper's.")] = None,
    arch: Arch = None,
    settings: Set = None,
    device: Device = "auto",
    workers: Annotated[
        int | None, typer.Option(help="Trainings and cells side by side; default: one for each CPU core.")
    ] = None,
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the ensembles, evaluations, figures and reproduction.{json,md}.", show_default="by name"
        ),
    ] = None,
) -> None:
    """Repeat a published table or figure: train, evaluate, and show the paper's numbers beside yours.

    Example, without any download: robustkit reproduce adp-table1 --dataset digits --as mnist
    """
    from rich.console import Console

    from robustkit.base.progress import Reporter
    from robustkit.reproduce import _ask

    asked: dict[str, Any] = {
        "dataset": dataset, "stands_for": stands_for, "data_dir": data_dir, "download": download, "budget": budget,
        "epochs": epochs, "n": n, "arch": arch, "settings": settings, "device": device, "workers": workers,
        "seed": seed, "out": out,
    }  # fmt: skip
    _ask.check(name, **asked)  # before torch is imported
    console = Console()
    with console.status("loading torch ..."):
        from robustkit.reproduce import _write, runner
    done = runner.reproduce(name, **asked, reporter=Reporter(console))
    _write.show(done, console)
    typer.echo(f"report: {done.ask.out / _write.MARKDOWN}")

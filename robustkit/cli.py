"""The command line: options to the functions of ``robustkit.api``; nothing else. Torch is imported by what runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from robustkit.base.version import __version__
from robustkit.commands.audit import audit
from robustkit.commands.evaluate import evaluate
from robustkit.commands.options import (
    Arch,
    DataDir,
    Dataset,
    Device,
    Download,
    Epochs,
    FrostDir,
    Fusion,
    ImageSize,
    Members,
    Seed,
    Set,
)
from robustkit.commands.reproduce import reproduce

app = typer.Typer(
    name="robustkit",
    help="How robust is this ensemble of image classifiers, and can that number be believed?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"robustkit {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.command()(evaluate)


@app.command()
def corrupt(
    dataset: Annotated[str, typer.Argument(metavar="IN", help="digits, cifar10, imagefolder:PATH, npz:PATH, ...")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the corrupted copy.")],
    suite: Annotated[str | None, typer.Option(help="Suites, like cifar-c,cifar-c-bar; default: by image size.")] = None,
    layout: Annotated[
        str | None,
        typer.Option(help="npy (like CIFAR-10-C) or folders (like ImageNet-C); default: folders for image folders."),
    ] = None,
    data_dir: DataDir = None,
    download: Download = False,
    image_size: ImageSize = None,
    n: Annotated[int | None, typer.Option(help="Only the first N test images.")] = None,
    frost_dir: FrostDir = None,
    device: Device = "auto",
    seed: Seed = 0,
) -> None:
    """Write a corrupted copy of a dataset's test images, in the layout of the published sets.

    Example: robustkit corrupt digits digits-c --suite cifar-c
    """
    from rich.console import Console

    from robustkit import data
    from robustkit.base.progress import Reporter
    from robustkit.corruptions._plan import chosen

    chosen(suite)  # before torch is imported
    data.describe(dataset)
    console = Console()
    with console.status("loading torch ..."):
        from robustkit.corruptions._copy import corrupt as run
    made = run(
        dataset, out, suites=suite, layout=layout, data_dir=data_dir, download=download, image_size=image_size, n=n,
        frost_dir=frost_dir, device=device, seed=seed, reporter=Reporter(console),
    )  # fmt: skip
    typer.echo(f"{len(made)} corruptions: {out}")


app.command()(audit)


@app.command()
def train(
    defense: Annotated[str, typer.Option(help="The defence to train with (see `robustkit list defenses`).")] = "adp",
    dataset: Dataset = "digits",
    data_dir: DataDir = None,
    download: Download = False,
    image_size: ImageSize = None,
    arch: Arch = None,
    members: Members = None,
    epochs: Epochs = None,
    fusion: Fusion = None,
    settings: Set = None,
    preset: Annotated[
        str | None, typer.Option(help="paper: the recipe and parameters of the defence's paper, but what is set here.")
    ] = None,
    device: Device = "auto",
    speed: Annotated[
        str, typer.Option(help="Compute plainly (off), as fast as a short trial finds (auto), or compiled (max).")
    ] = "auto",
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder of the checkpoint.")] = Path("robustkit-ensemble"),
) -> None:
    """Train an ensemble and write a checkpoint that `evaluate --checkpoint` and `load_ensemble` read.

    Examples: robustkit train --defense adp+advt-pgd, or, on two GPUs,
    torchrun --nproc-per-node 2 -m robustkit train --defense adp --dataset cifar10 --data-dir D
    """
    from rich.console import Console

    from robustkit.base.progress import Reporter
    from robustkit.pipeline import request

    request.check(defenses=defense, attacks="pgd", dataset=dataset, fusion=fusion, settings=settings)
    console = Console()
    with console.status("loading torch ..."):
        from robustkit import api
    metrics = api.train(
        defense=defense, dataset=dataset, data_dir=data_dir, download=download, image_size=image_size, arch=arch,
        members=members, epochs=epochs, fusion=fusion, settings=settings, preset=preset, device=device, speed=speed,
        seed=seed, out=out, reporter=Reporter(console),
    )  # fmt: skip
    if int(os.environ.get("RANK", "0")):  # of several processes, one speaks
        return
    console.print(
        f"test accuracy {metrics['test_accuracy']:.4f}, members "
        f"{', '.join(f'{a:.4f}' for a in metrics['test_member_accuracy'])}; best epoch {metrics['best_epoch']:.0f}",
        highlight=False,
    )
    typer.echo(f"checkpoint: {out}")


@app.command()
def report(
    runs: Annotated[Path, typer.Argument(help="The --out folder of an evaluation.")],
    formats: Annotated[str, typer.Option("--format", help="html, tex, md, csv, figures.")] = "html,tex,md,csv,figures",
    out: Annotated[Path | None, typer.Option(help="Where to write; default: beside the runs.")] = None,
) -> None:
    """Render tables, figures and the report again from stored runs; no attack is run."""
    from rich.console import Console

    from robustkit.base import options
    from robustkit.records.store import open_runs
    from robustkit.reports import report as registry

    chosen = options.names(formats, registry)
    folder = open_runs(runs).folder.parent
    from robustkit import api
    from robustkit.reports import terminal

    terminal.show(api.report(runs, formats=chosen, out=out), Console())
    name = {"html": "report.html", "figures": "figures"}.get(chosen[0], "tables")
    typer.echo(f"report: {(out or folder) / ('report.html' if 'html' in chosen else name)}")


app.command()(reproduce)


@app.command()
def bench(
    self_test: Annotated[
        bool, typer.Option("--self-test", help="Evaluate planted faults, and say which of them the verdicts catch.")
    ] = False,
    dataset: Dataset = "digits",
    data_dir: DataDir = None,
    arch: Annotated[str, typer.Option(help="Architecture of the models that the faults are planted in.")] = "lenet",
    epochs: Annotated[int, typer.Option(help="Training epochs of the two sound ensembles.")] = 20,
    n: Annotated[int, typer.Option(help="Test samples.")] = 128,
    device: Device = "auto",
    workers: Annotated[int | None, typer.Option(help="Faults side by side; default: one for each CPU core.")] = None,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder of self-test.json.")] = Path("robustkit-self-test"),
) -> None:
    """Test the verdicts themselves: every planted fault must be caught, and sound models must be trusted.

    Example: robustkit bench --self-test
    """
    from rich.console import Console

    from robustkit.base.errors import UserError
    from robustkit.base.progress import Reporter

    if not self_test:
        raise UserError("bench needs --self-test; the benchmarks against other toolkits are scripts in benchmarks/.")
    console = Console()
    with console.status("loading torch ..."):
        from robustkit import api
        from robustkit.pipeline import selftest
    outcomes = api.self_test(
        dataset=dataset, data_dir=data_dir, arch=arch, epochs=epochs, n=n, device=device, workers=workers, seed=seed,
        out=out, reporter=Reporter(console),
    )  # fmt: skip
    console.print(selftest.table(outcomes))
    typer.echo(f"report: {out / 'self-test.json'}")
    if not all(outcome.right for outcome in outcomes):
        raise typer.Exit(1)


@app.command("list")
def list_methods(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="attacks, corruptions, defenses, models, datasets, ood-sets, reports, checks or reproductions; "
            "default: all."
        ),
    ] = None,
) -> None:
    """List what there is: names, what they do, parameters with defaults, sources."""
    from robustkit.commands.listing import show

    show(kind)

"""The command line: options to the functions of ``robustkit.api``; nothing else. Torch is imported by what runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from robustkit import __version__
from robustkit.cli_audit import audit
from robustkit.cli_options import (
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


@app.command()
def evaluate(
    defense: Annotated[
        str, typer.Option(help="Defences to train (or take from the cache), like adp+advt-pgd or adp,baseline.")
    ] = "adp",
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="A trained folder instead of a defence; repeatable.")
    ] = None,
    pool: Annotated[
        list[Path] | None,
        typer.Option(help="A trained folder, or a folder of such, whose members join one pool; repeatable."),
    ] = None,
    subset_size: Annotated[
        int | None, typer.Option(help="Members of each subset of the pool.", show_default="3")
    ] = None,
    pool_attribution: Annotated[
        int, typer.Option(help="On how many images the pool's saliency maps are compared; 0: none.")
    ] = 200,
    dataset: Dataset = "digits",
    data_dir: DataDir = None,
    download: Download = False,
    image_size: ImageSize = None,
    attacks: Annotated[str | None, typer.Option(help="Attacks, like fgsm,pgd,mim; default: pgd,mim.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="The grid of a published table: adp-table2, adp-table4, adp-table5.")
    ] = None,
    backend: Annotated[str, typer.Option(help="Whose attacks run: native, torchattacks or foolbox.")] = "native",
    eps: Annotated[
        str | None, typer.Option(help="Budgets in [0, 1], like 2/255,4/255,8/255; default: the dataset's.")
    ] = None,
    norm: Annotated[str | None, typer.Option(help="linf or l2; default: the dataset's.")] = None,
    targeted: Annotated[bool, typer.Option("--targeted", help="White-box attacks aim at random labels.")] = False,
    target: Annotated[
        str | None,
        typer.Option(help="Aim at random, least-likely or next-best labels, or at the class of this number."),
    ] = None,
    suites: Annotated[
        str | None,
        typer.Option(
            help="attacks, transfer, corruptions, detection, ood, calibration, diversity, all; default: the first two."
        ),
    ] = None,
    corruptions: Annotated[
        str | None,
        typer.Option(help="Suites of natural corruptions, like cifar-c,cifar-c-bar; default: by image size."),
    ] = None,
    ood: Annotated[
        str | None,
        typer.Option(
            help="Out-of-distribution sets, like near:fashionmnist,far:imagefolder:PATH; default: what needs no files."
        ),
    ] = None,
    frost_dir: FrostDir = None,
    corruption_dir: Annotated[
        Path | None, typer.Option(help="A published set of corrupted images to read, like CIFAR-10-C.")
    ] = None,
    n: Annotated[int | None, typer.Option(help="Only the first N test samples.")] = None,
    arch: Arch = None,
    members: Members = None,
    epochs: Epochs = None,
    fusion: Fusion = None,
    settings: Set = None,
    baseline: Annotated[bool, typer.Option(help="Evaluate the plain ensemble beside the defence.")] = True,
    reference: Annotated[bool, typer.Option(help="Run a 100-step PGD beside the attacks.")] = True,
    trust: Annotated[
        str,
        typer.Option(help="Cost of the checks: quick (about 30 % of the attacks' time), full (about as much), or off."),
    ] = "quick",
    escalate: Annotated[
        bool, typer.Option("--escalate", help="Where a worst case is suspect, run what its checks advise.")
    ] = False,
    escalate_budget: Annotated[
        float, typer.Option(help="What that may cost at each eps, in forward passes for each sample.")
    ] = 20_000.0,
    eot: Annotated[int, typer.Option(help="Passes of a randomised model that every attack averages.")] = 1,
    device: Device = "auto",
    batch_size: Annotated[
        int | None, typer.Option(help="Samples attacked at a time; changes no number.", show_default="by image size")
    ] = None,
    speed: Annotated[
        str,
        typer.Option(help="Attack the model itself (off), an equal, faster copy (auto), or a compiled one (max)."),
    ] = "auto",
    workers: Annotated[
        int | None, typer.Option(help="Trainings and cells side by side; default: one for each CPU core.")
    ] = None,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder of results.json, report.html, tables, figures and runs.")] = Path(
        "robustkit-out"
    ),
    keep_examples: Annotated[
        bool, typer.Option(help="Keep the adversarial images in the store, at most 256 MiB a cell.")
    ] = True,
) -> None:
    """Attack an ensemble, white-box and member to member, and say whether the numbers can be believed.

    Example: robustkit evaluate --defense adp --attacks pgd,mim
    """
    from rich.console import Console

    from robustkit import request
    from robustkit.progress import Reporter

    names: Any = defense if not (checkpoint or pool) else ()
    request.check(  # before torch is imported: a typing error is answered at once
        defenses=names,
        attacks=attacks,
        preset=preset,
        backend=backend,
        dataset=dataset,
        eps=eps,
        norm=norm,
        suites=suites,
        corruptions=corruptions,
        ood=ood,
        fusion=fusion,
        settings=settings,
    )
    console = Console()
    with console.status("loading torch ..."):
        from robustkit import api
        from robustkit.reports import terminal
    results = api.evaluate(
        defense=defense, checkpoint=checkpoint, pool=pool, subset_size=subset_size, pool_attribution=pool_attribution,
        dataset=dataset, data_dir=data_dir, download=download,
        image_size=image_size, attacks=attacks, preset=preset, backend=backend, eps=eps, norm=norm, targeted=targeted,
        target=target, suites=suites, corruptions=corruptions, ood=ood, frost_dir=frost_dir,
        corruption_dir=corruption_dir, n=n, arch=arch, members=members, epochs=epochs, fusion=fusion, settings=settings,
        baseline=baseline,
        reference=reference, trust=trust, escalate=escalate, escalate_budget=escalate_budget, eot=eot, device=device,
        batch_size=batch_size, speed=speed, workers=workers, seed=seed, out=out, keep_examples=keep_examples,
        reporter=Reporter(console),
    )  # fmt: skip
    terminal.show(results, console)
    typer.echo(f"report: {out / 'report.html'}")


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
    from robustkit.corruptions._plan import chosen
    from robustkit.progress import Reporter

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

    from robustkit import request
    from robustkit.progress import Reporter

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

    from robustkit import options
    from robustkit.reports import report as registry
    from robustkit.store import open_runs

    chosen = options.names(formats, registry)
    folder = open_runs(runs).folder.parent
    from robustkit import api
    from robustkit.reports import terminal

    terminal.show(api.report(runs, formats=chosen, out=out), Console())
    name = {"html": "report.html", "figures": "figures"}.get(chosen[0], "tables")
    typer.echo(f"report: {(out or folder) / ('report.html' if 'html' in chosen else name)}")


@app.command()
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

    from robustkit.progress import Reporter
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

    from robustkit.errors import UserError
    from robustkit.progress import Reporter

    if not self_test:
        raise UserError("bench needs --self-test; the benchmarks against other toolkits are scripts in benchmarks/.")
    console = Console()
    with console.status("loading torch ..."):
        from robustkit import api, selftest
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
    from robustkit.listing import show

    show(kind)

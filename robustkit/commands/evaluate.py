"""``robustkit evaluate``: options to :func:`robustkit.evaluate`; nothing else. Never imports torch by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from robustkit.base.names import ESCALATION
from robustkit.commands.options import (
    Arch,
    CorruptionDir,
    CorruptionReference,
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
    corruption_reference: CorruptionReference = None,
    corruption_dir: CorruptionDir = None,
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
    ] = ESCALATION,
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

    from robustkit.base.progress import Reporter
    from robustkit.pipeline import request

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
        corruption_dir=corruption_dir, corruption_reference=corruption_reference,
        n=n, arch=arch, members=members, epochs=epochs, fusion=fusion, settings=settings,
        baseline=baseline,
        reference=reference, trust=trust, escalate=escalate, escalate_budget=escalate_budget, eot=eot, device=device,
        batch_size=batch_size, speed=speed, workers=workers, seed=seed, out=out, keep_examples=keep_examples,
        reporter=Reporter(console),
    )  # fmt: skip
    terminal.show(results, console)
    typer.echo(f"report: {out / 'report.html'}")

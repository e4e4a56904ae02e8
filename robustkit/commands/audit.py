"""``robustkit audit``: options to :func:`robustkit.audit`; nothing else. Never imports torch by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from robustkit.commands.options import (
    Arch,
    CorruptionDir,
    CorruptionReference,
    DataDir,
    Dataset,
    Device,
    Download,
    FrostDir,
    Fusion,
    ImageSize,
    Seed,
    Set,
)


def audit(
    files: Annotated[list[Path], typer.Argument(help="Model files, or folders of them; several make one ensemble.")],
    dataset: Dataset = "digits",
    data_dir: DataDir = None,
    download: Download = False,
    image_size: ImageSize = None,
    arch: Arch = None,
    arch_args: Annotated[
        list[str] | None, typer.Option(help="An argument of the architecture, like depth=28; repeatable.")
    ] = None,
    normalize: Annotated[
        str | None,
        typer.Option(help="imagenet, cifar10, none, ... or means/deviations like 0.5/0.25; default: detected."),
    ] = None,
    pixel_range: Annotated[
        int | None, typer.Option(help="1 or 255: the largest pixel that the model takes; default: detected.")
    ] = None,
    channel_order: Annotated[str | None, typer.Option(help="rgb or bgr; default: detected.")] = None,
    input_size: Annotated[
        int | None, typer.Option(help="Pixels that images are resized to; default: detected.")
    ] = None,
    outputs: Annotated[
        str | None, typer.Option(help="logits, probabilities or log-probabilities; default: detected.")
    ] = None,
    fusion: Fusion = None,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Run the code in the file, with all that it may do.")
    ] = False,
    attacks: Annotated[str | None, typer.Option(help="Attacks, like fgsm,pgd,mim; default: pgd,mim.")] = None,
    eps: Annotated[
        str | None, typer.Option(help="Budgets in [0, 1], like 2/255,4/255,8/255; default: the dataset's.")
    ] = None,
    norm: Annotated[str | None, typer.Option(help="linf or l2; default: the dataset's.")] = None,
    suites: Annotated[str | None, typer.Option(help="As of evaluate; default: all, ood only with --ood.")] = None,
    corruptions: Annotated[
        str | None, typer.Option(help="Suites of natural corruptions; default: by image size.")
    ] = None,
    frost_dir: FrostDir = None,
    corruption_reference: CorruptionReference = None,
    corruption_dir: CorruptionDir = None,
    ood: Annotated[
        str | None, typer.Option(help="Out-of-distribution sets, as of evaluate; turns that suite on.")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="train (on the dataset's training split, once), or a folder that `robustkit train` wrote: an "
            "independent model, whose adversarial images are tried on the audited one."
        ),
    ] = None,
    n: Annotated[int, typer.Option(help="Test images.")] = 256,
    settings: Set = None,
    trust: Annotated[str, typer.Option(help="Cost of the checks: quick, full or off.")] = "quick",
    escalate: Annotated[
        bool, typer.Option("--escalate", help="Where a worst case is suspect, run what its checks advise.")
    ] = False,
    device: Device = "auto",
    workers: Annotated[int | None, typer.Option(help="Cells side by side; default: one for each CPU core.")] = None,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="Folder of results.json and report.html.")] = Path("robustkit-audit"),
) -> None:
    """Audit model files that somebody else made: find out how to run them, attack them, and say what was not tested.

    Example: robustkit audit model.th --dataset cifar10 --data-dir D
    """
    from rich.console import Console

    from robustkit.base import options
    from robustkit.base.progress import Reporter
    from robustkit.pipeline import request

    request.check(
        defenses=(), attacks=attacks, dataset=dataset, eps=eps, norm=norm, suites=suites, corruptions=corruptions,
        ood=ood, fusion=fusion, settings=settings,
    )  # fmt: skip
    request.verdicts(trust, escalate)
    for value, kind, known in (
        (channel_order, "channel order", ("rgb", "bgr")),
        (outputs, "kind of outputs", ("logits", "probabilities", "log-probabilities")),
        (None if pixel_range is None else str(pixel_range), "pixel range", ("1", "255")),
    ):
        if value is not None:
            options.choice(value, kind, known)
    options.at_least_one({"input size": input_size, "n": n, "workers": workers})
    console = Console()
    with console.status("loading torch ..."):
        from robustkit.auditing import running
        from robustkit.auditing.detecting import Given
        from robustkit.reports import terminal
    order: Any = channel_order
    rows: Any = outputs
    given = Given(
        normalize=normalize, scale=float(pixel_range) if pixel_range else None, order=order,
        size=(input_size, input_size) if input_size else None, outputs=rows,
    )  # fmt: skip
    results = running.audit(
        list(files), dataset, data_dir=data_dir, download=download, image_size=image_size, arch=arch,
        arch_args=running.arguments(arch_args or ()), given=given, trust_pickle=trust_pickle, fusion=fusion, n=n,
        suites=suites, device=device, out=out, reporter=Reporter(console), attacks=attacks, eps=eps, norm=norm,
        corruptions=corruptions, frost_dir=frost_dir, corruption_dir=corruption_dir,
        corruption_reference=corruption_reference, ood=ood, baseline=baseline, settings=settings, trust=trust,
        escalate=escalate, workers=workers, seed=seed,
    )  # fmt: skip
    terminal.show(results, console)
    typer.echo(f"report: {out / 'report.html'}")

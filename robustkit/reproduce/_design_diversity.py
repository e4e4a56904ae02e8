"""What the design-diversity paper's figures have in common: its pool, its validation sets, gains against diversity."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from robustkit.records.schema_members import PoolResult, PoolSet
from robustkit.reports._style import DPI, GRID, INK, SOFT, bare
from robustkit.reproduce._lab import Lab
from robustkit.reproduce._parts import Claim, Column, Comparison, Images, Recipe
from robustkit.reproduce._recipes import SHAPES
from robustkit.search._folder import RECORD
from robustkit.training import recipes

IMAGES = Images(50_000, 500)  # ImageNet's validation images
TRAINING_IMAGES = 1_281_167
LISTING_1 = {"epochs": 165, "evaluations": 1000, "population": 50, "subnetworks": 11}  # and section 4.2
SUITE = "design-diversity"  # plasma, checkerboard, water drop and lines at the paper's strengths
ATTRIBUTED = 200  # images whose saliency maps are compared
ATTRIBUTION, NORMALISED, DISAGREEMENT, ACCURACY = (
    "attribution_variance", "attribution_variance_normalised", "oracle_disagreement", "member_accuracy",
)  # fmt: skip
TITLES = {
    ATTRIBUTION: "attribution diversity (eq. 7)",
    NORMALISED: "attribution diversity of unit maps",
    DISAGREEMENT: "disagreement (eq. 4)",
    ACCURACY: "mean accuracy of the members",
}
PICTURE = (
    "The paper's correlations are only in its picture; here they are Pearson's, over ensembles that share members."
)
AVERAGING, VOTING = "mean-logit", "majority"
_SGD = {"optimiser": "sgd", "momentum": 0.9, "lr": 0.1, "weight_decay": 1e-4, "schedule": "steps",
        "drops": "3/10,6/10,9/10", "batch_size": 32}  # fmt: skip
_COSINE = {"optimiser": "adam", "lr": 5e-4, "schedule": "cosine", "batch_size": 256}
_DEIT = "timm/deit_tiny_patch16_224"


def _model(name: str, paper: str, arch: str, small: str, train: Mapping[str, Any], **changed: Any) -> Column:
    """Return a model of Table i: what the paper has, what is trained for it at either scale, and how."""
    compared = {"arch": paper, **changed.pop("compared", {})}
    recipe = Recipe(arch, 1, changed.pop("epochs", 100), TRAINING_IMAGES, train, compared, small=small, **changed)
    return Column(name, "baseline", recipe=recipe)


# Table i. DINO's networks are trained without labels there, and with them here.
POOL = (
    _model("ResNext50_32_2", "ResNeXt-50 32x2d", "resnext50_32x4d", "small-resnet", _SGD),
    _model("ResNext50_32_4l", "ResNeXt-50 32x4d, layers 2 2 3 2", "resnext50_32x4d", "small-resnet", _SGD, seed=1),
    _model("ResNext50_16_4", "ResNeXt-50 16x4d", "resnext50_32x4d", "resnet20", _SGD),
    _model("MNASNET_1", "MNASNet 1.0", "mnasnet1_0", "small-resnet", _SGD, seed=3),  # a LeNet learns nothing at lr .1
    _model(
        "MNASNET_1p", "MNASNet 1.0", "mnasnet1_0", "lenet", {"optimiser": "adam", "batch_size": 32},
        compared={"optimiser": "rmsprop, lr .256"},
    ),
    _model("Squeezenet_512", "SqueezeNet 1.1", "squeezenet1_1", "lenet",
           {**_SGD, "lr": 0.01, "weight_decay": 2e-4, "batch_size": 512}),
    _model("Squeezenet", "SqueezeNet 1.1", "squeezenet1_1", "lenet",
           {**_SGD, "lr": 0.01, "weight_decay": 2e-4, "batch_size": 128}),
    _model("bootstrapNAS-B_0", "subnetwork of ResNet-50", "resnet50", "elastic-resnet", _SGD),
    _model("bootstrapNAS-B_1", "subnetwork of ResNet-50", "resnet50", "elastic-resnet", _SGD, seed=1),
    _model("deit_tiny_p16_224", "DeiT tiny", _DEIT, "small-resnet", _COSINE, epochs=300,
           compared={"optimiser": "adamw"}),
    _model("dino_deit_tiny1", "DINO DeiT tiny", _DEIT, "small-resnet", _COSINE, epochs=300, seed=2,
           compared={"optimiser": "adamw, without labels"}),
    _model("dino_deit_tiny2", "DINO DeiT tiny", _DEIT, "small-resnet", _COSINE, epochs=300, seed=7,
           compared={"optimiser": "adamw, without labels"}),
    _model("dino_resnet1", "DINO ResNet-50", "resnet50", "resnet20", {**_SGD, "lr": 0.03}, seed=5,
           compared={"optimiser": "sgd, without labels"}),
    _model("dino_resnet2", "DINO ResNet-50", "resnet50", "resnet20", {**_SGD, "lr": 0.03}, seed=15,
           compared={"optimiser": "sgd, without labels"}),
)  # fmt: skip


def ncl_recipe() -> Recipe:
    """Return the training of section 4.3: AdaBelief, 100 epochs, a ResNet-50."""
    fields = recipes.of("design-diversity", "imagenet")
    names = ("lr", "batch_size", "optimiser", "schedule", "drops")
    return Recipe(
        "resnet50", fields["members"], fields["epochs"], TRAINING_IMAGES, {name: fields[name] for name in names}
    )


def heterogeneous(lab: Lab, part: str, **options: Any) -> PoolResult:
    """Train the pool of Table i and score all its triples."""
    lab.train(POOL, POOL[0].recipe or ncl_recipe())
    return scored(lab, part, [lab.folder(column) for column in POOL], **options)


def scored(lab: Lab, part: str, pool: Sequence[Any], **options: Any) -> PoolResult:
    """Score all triples of a pool, and note what is compared on fewer images than in the paper."""
    results = lab.evaluate(part, (), IMAGES, pool=pool, subset_size=3, pool_attribution=ATTRIBUTED, **options)
    found: PoolResult = results["pools"][0]
    lab.note("images whose attributions are compared", IMAGES.paper, found["sets"][0]["attribution_images"])
    if found["notes"]:
        lab.note("pool", "no member twice", " ".join(found["notes"]))
    return found


def correlation(one: PoolSet, rule: str, measure: str) -> float | None:
    """Return Pearson's correlation of the gain with a measure over the subsets."""
    return next(c["pearson"] for c in one["correlations"] if (c["rule"], c["measure"]) == (rule, measure))


def correlation_rows(one: PoolSet, rule: str, measures: Sequence[str]) -> list[Comparison]:
    """Return the correlations of the gain, for which the paper has pictures only."""
    return [
        Comparison(f"r of gain and {TITLES[measure]}", one["name"], correlation(one, rule, measure), unit="")
        for measure in measures
    ]


def gain_rows(found: PoolResult, one: PoolSet, rule: str, paper: int) -> list[Comparison]:
    """Return how many subsets there are, and what they gain over their best members."""
    own = next(r for r in one["rules"] if r["rule"] == rule)
    below = 100 * float(np.mean(np.array(own["gain"]) < 0))
    return [
        Comparison("ensembles", one["name"], float(len(found["subsets"])), float(paper), ""),
        Comparison("mean gain", one["name"], 100 * own["mean_gain"], unit="points"),
        Comparison("ensembles that gain", one["name"], 100 * own["gained"]),
        Comparison("ensembles that lose", one["name"], below),
    ]


def gains(one: PoolSet, rule: str) -> Any:
    """Return the gains of all subsets in points, (S,)."""
    return 100 * np.array(next(r["gain"] for r in one["rules"] if r["rule"] == rule))


def sign(paper: str, one: PoolSet, rule: str, measure: str, positive: bool) -> Claim:
    """Return what the paper says of the sign of a correlation, and the one here."""
    r = correlation(one, rule, measure)
    said = "not defined" if r is None else f"{r:+.2f}"
    return Claim(paper, f"r of gain and {TITLES[measure]}: {said}", r is not None and (r > 0) == positive)


def bubbles(found: PoolResult, one: PoolSet, rule: str, measures: Sequence[str]) -> Figure:
    """Draw gain against measures as the paper does: a point a subset, its colour the accuracy, its size the weights."""
    figure = Figure(figsize=(4.4 * len(measures) + 0.8, 3.9), layout="constrained", facecolor="white", dpi=DPI)
    panels = figure.subplots(1, len(measures), squeeze=False, sharey=True)[0]
    own = next(r for r in one["rules"] if r["rule"] == rule)
    sizes = np.array([sum(found["members"][m]["parameters"] for m in subset) for subset in found["subsets"]], float)
    for axes, measure in zip(panels, measures, strict=True):
        x = scaled(one["measures"][measure])
        points = axes.scatter(
            x, gains(one, rule), s=6 + 60 * sizes / sizes.max(), c=100 * np.array(own["accuracy"]), cmap="viridis",
            alpha=0.7, linewidths=0, rasterized=True,
        )  # fmt: skip
        r = correlation(one, rule, measure)
        axes.set_title(f"r = {'-' if r is None else f'{r:+.2f}'}", fontsize=9, color=INK)
        axes.set_xlabel(f"{TITLES[measure]}, scaled to [0, 1]", fontsize=8, color=INK)
        dressed(axes)
    panels[0].set_ylabel(f"gain over the best member, {one['name']} (points)", fontsize=8, color=INK)
    figure.colorbar(points, ax=list(panels), label="accuracy of the ensemble (%)")
    return figure


def scaled(values: Sequence[float | None]) -> Any:
    """Return values scaled to [0, 1], NaN where one is not defined; 0 where all are equal."""
    x = np.array([np.nan if v is None else v for v in values], float)
    low, high = np.nanmin(x), np.nanmax(x)
    return (x - low) / (high - low) if high > low else x - low


def dressed(axes: Any) -> None:
    """Give a panel its zero line, grid and colours."""
    axes.axhline(0.0, color=SOFT, linewidth=0.8, linestyle="--")
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=7, colors=INK, length=0)
    bare(axes)


def subnetworks(lab: Lab) -> list[Path]:
    """Search the supernet, and return the folders of its subnetworks; what is not as in listing 1 is noted."""
    candidates = lab.search("supernet")
    record = json.loads((candidates.parent / RECORD).read_text("utf-8"))
    params = record["params"]
    lab.note("supernet", "ResNet-50 with bottlenecks, trained on ImageNet",
             f"elastic-resnet of {params['widths']} channels, {params['pretraining']} epochs alone")  # fmt: skip
    lab.note("trained at each step", "not stated", f"largest, smallest and {params['sampled']} drawn ones")
    lab.note("dataset", lab.stands_for, lab.ask.dataset)
    lab.note("image shape (C, H, W)", SHAPES[lab.stands_for], list(lab.data.shape))
    for name, published in LISTING_1.items():
        lab.note(f"supernet.{name}", published, params[name])
    return [candidates / row["name"] for row in record["candidates"]]

"""Table 2 of the design-diversity paper."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from robustkit.ensembles.checkpoint import save_ensemble
from robustkit.ensembles.ensemble import Ensemble
from robustkit.functional.stats import finite
from robustkit.metrics.diversity import vote_equitability
from robustkit.records.samples import Samples
from robustkit.reproduce import _design_diversity as paper
from robustkit.reproduce import reproduction
from robustkit.reproduce._lab import Lab
from robustkit.reproduce._parts import Claim, Column, Comparison, Outcome

# The validation sets, by what they are called here; the paper's ImageNetV2 has no counterpart.
SETS = {
    "clean": "IN", "": "I2", "water_drop": "WD", "lines": "LI", "plasma_noise": "PL", "checkerboard_cutout": "CB",
}  # fmt: skip
# Shannon equitability over rightly and over wrongly classified samples, in the order of SETS.
PAPER: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "Att. div.": ((0.13, 0.16, 0.29, 0.32, 0.23, 0.23), (0.46, 0.49, 0.62, 0.60, 0.57, 0.58)),
    "Pred. div.": ((0.10, 0.13, 0.29, 0.31, 0.21, 0.23), (0.46, 0.49, 0.67, 0.69, 0.59, 0.63)),
    "Hetero.": ((0.12, 0.17, 0.35, 0.37, 0.25, 0.29), (0.51, 0.55, 0.74, 0.77, 0.67, 0.71)),
}
ENFORCED = (
    Column("Att. div.", "attribution", {"attribution.lam": 0.001, "attribution.bounded": False}, "mean-logit"),
    Column("Pred. div.", "gncl", {"gncl.lam": 0.2}, "mean-logit"),
)
UNLIKE = ("ResNext50_16_4", "MNASNET_1p", "deit_tiny_p16_224")  # the paper does not say which three
HETERO = Column("Hetero.", "baseline", fusion="mean-logit")


@reproduction(
    "design-diversity-table2",
    title="Design diversity, Table 2: how diverse the predictions of three ensembles are",
    source="Rosales et al. 2023, Exploring Resiliency to Natural Image Corruptions, Table 2 and section 4.3.2",
    datasets=("imagenet",),
    defenses=("baseline", "gncl", "attribution"),
    attacks=(),
)
def design_diversity_table2(lab: Lab) -> Outcome:
    """Shannon equitability of the votes: attribution diversity, prediction diversity, unlike architectures."""
    lab.train(ENFORCED, paper.ncl_recipe())
    models = [column for column in paper.POOL if column.name in UNLIKE]
    lab.train(models, paper.ncl_recipe())
    joined(lab, models)
    columns = (*ENFORCED, HETERO)
    lab.evaluate("corruptions", columns, paper.IMAGES, suites="corruptions", corruptions=paper.SUITE)
    lab.note("validation sets", list(SETS.values()), [text for name, text in SETS.items() if name])
    lab.note("S of eq. 5", "number of classes, or of prediction species", "the lesser of members and classes")
    found = {
        (record.id, run.cell.name if run.cell.kind == "corruption" else "clean"): equitability(run.samples)
        for record, run in lab.runs("corruptions")
    }
    rows = []
    for at, kind in enumerate(("H right", "H wrong")):
        for index, (name, text) in enumerate(SETS.items()):
            for column in columns if name else ():
                value = found[lab.name(column), name][at]
                rows.append(Comparison(f"{kind}, {text}", column.name, value, PAPER[column.name][at][index], ""))
    more = [
        (found[lab.name(HETERO), name][1] or 0.0) > max(found[lab.name(c), name][1] or 0.0 for c in ENFORCED)
        for name in SETS
        if name
    ]
    claim = Claim(
        "the heterogeneous ensemble produces more diverse predictions in general",
        f"more on wrongly classified samples than both others on {sum(more)} of {len(more)} sets",
        sum(more) > len(more) / 2,
    )
    note = "H is the mean equitability of three votes, over the samples that the ensemble has right and has wrong."
    return Outcome(rows, [claim], decimals=2, note=note)


def joined(lab: Lab, models: list[Column]) -> None:
    """Write the ensemble of some single models, fused by the mean of their logits."""
    parts = [lab.ensemble(column) for column in models]
    metas = [lab.meta(column) for column in models]
    whole = Ensemble([part.members[0] for part in parts], HETERO.fusion)
    save_ensemble(
        whole, lab.folder(HETERO), arch=[meta["members"][0]["arch"] for meta in metas],
        arch_params=[meta["members"][0]["params"] for meta in metas], classes=list(lab.data.classes),
        shape=lab.data.shape, data=metas[0]["data"],
    )  # fmt: skip


def equitability(samples: Samples) -> tuple[float | None, float | None]:
    """Return the mean equitability of the votes over right and over wrong samples; None where there are none."""
    whole = samples.whole()
    votes = vote_equitability(whole.member_prediction, whole.fused.shape[1])
    right = whole.prediction == whole.y
    means = [float(votes[rows].mean()) if rows.any() else np.nan for rows in (right, ~right)]
    return finite(means[0]), finite(means[1])

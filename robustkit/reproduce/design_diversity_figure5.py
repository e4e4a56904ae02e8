"""Figure 5 of the design-diversity paper."""

from __future__ import annotations

from robustkit.reports._drawing import Drawing
from robustkit.reproduce import _design_diversity as paper
from robustkit.reproduce import reproduction
from robustkit.reproduce._lab import Lab
from robustkit.reproduce._parts import Outcome

MEASURES = (paper.ATTRIBUTION, paper.NORMALISED, paper.DISAGREEMENT)


@reproduction(
    "design-diversity-figure5",
    title="Design diversity, Figure 5: what 364 ensembles gain by averaging, against how diverse they are",
    source="Rosales et al. 2023, Exploring Resiliency to Natural Image Corruptions, Figure 5 and section 4.2",
    datasets=("imagenet",),
    defenses=("baseline",),
    attacks=(),
)
def design_diversity_figure5(lab: Lab) -> Outcome:
    """Gain of all triples of 14 unlike models under averaging, against attribution diversity and disagreement."""
    found = paper.heterogeneous(lab, "pool")
    one, rule = found["sets"][0], paper.AVERAGING
    claims = [
        paper.sign("attribution diversity is positively correlated with ensemble improvement", one, rule,
                   paper.ATTRIBUTION, True),
        paper.sign("prediction-based diversity is negatively correlated with it", one, rule, paper.DISAGREEMENT, False),
    ]  # fmt: skip
    rows = [*paper.gain_rows(found, one, rule, 364), *paper.correlation_rows(one, rule, MEASURES)]
    alt = "Gain of each ensemble over its best member against its diversity, averaging."
    drawing = Drawing("gain", alt, paper.bubbles(found, one, rule, (paper.ATTRIBUTION, paper.DISAGREEMENT)), "scatter")
    return Outcome(rows, claims, [drawing], decimals=2, note=paper.PICTURE)

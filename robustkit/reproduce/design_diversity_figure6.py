"""Figure 6 of the design-diversity paper."""

from __future__ import annotations

import numpy as np

from robustkit.reports._drawing import Drawing
from robustkit.reproduce import _design_diversity as paper
from robustkit.reproduce import reproduction
from robustkit.reproduce._lab import Lab
from robustkit.reproduce._parts import Claim, Outcome

MEASURES = (paper.ATTRIBUTION, paper.NORMALISED, paper.DISAGREEMENT)
VAST = 0.75  # the paper names no share


@reproduction(
    "design-diversity-figure6",
    title="Design diversity, Figure 6: what 364 ensembles gain by voting, against how diverse they are",
    source="Rosales et al. 2023, Exploring Resiliency to Natural Image Corruptions, Figure 6 and section 4.2",
    datasets=("imagenet",),
    defenses=("baseline",),
    attacks=(),
)
def design_diversity_figure6(lab: Lab) -> Outcome:
    """Gain of all triples of 14 unlike models under majority voting, beside that under averaging."""
    found = paper.heterogeneous(lab, "pool")
    one = found["sets"][0]
    lab.note("votes that are equal", "drawn at random", "decided by the summed probability")
    below = float(np.mean(paper.gains(one, paper.VOTING) < 0))
    averaged = float(np.mean(paper.gains(one, paper.AVERAGING) < 0))
    claims = [
        paper.sign("the same trend can be observed with voting: attribution diversity is positively correlated",
                   one, paper.VOTING, paper.ATTRIBUTION, True),
        paper.sign("the same trend can be observed with voting: disagreement is negatively correlated",
                   one, paper.VOTING, paper.DISAGREEMENT, False),
        Claim("the vast majority of the ensembles reside under the zero line", f"{100 * below:.0f} % lose",
              below > VAST),
        Claim("voting produces mostly ensembles that decrease the final performance, in contrast to averaging",
              f"{100 * below:.0f} % lose by voting, {100 * averaged:.0f} % by averaging", below > 0.5 > averaged),
    ]  # fmt: skip
    rows = [*paper.gain_rows(found, one, paper.VOTING, 364), *paper.correlation_rows(one, paper.VOTING, MEASURES)]
    alt = "Gain of each ensemble over its best member against its diversity, voting."
    figure = paper.bubbles(found, one, paper.VOTING, (paper.ATTRIBUTION, paper.DISAGREEMENT))
    return Outcome(rows, claims, [Drawing("gain", alt, figure, "scatter")], decimals=2, note=paper.PICTURE)

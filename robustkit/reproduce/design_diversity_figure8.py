"""Figure 8 and Table ii of the design-diversity paper."""

from __future__ import annotations

import numpy as np

from robustkit.functional.stats import finite
from robustkit.metrics.subsets import correlations
from robustkit.reports._drawing import Drawing
from robustkit.reproduce import _design_diversity as paper
from robustkit.reproduce import reproduction
from robustkit.reproduce._lab import Lab
from robustkit.reproduce._parts import Claim, Comparison, Outcome

MEASURES = (paper.ATTRIBUTION, paper.DISAGREEMENT, paper.ACCURACY)
STRONG = 0.5  # the paper names no number


@reproduction(
    "design-diversity-figure8",
    title="Design diversity, Figure 8: 165 ensembles of eleven subnetworks of one supernet",
    source="Rosales et al. 2023, Exploring Resiliency to Natural Image Corruptions, Figure 8, section 4.2 and Table ii",
    datasets=("imagenet",),
    defenses=(),
    attacks=(),
    searches=("supernet",),
)
def design_diversity_figure8(lab: Lab) -> Outcome:
    """Gain of all triples of eleven subnetworks of about one complexity, against three metrics."""
    found = paper.scored(lab, "pool", paper.subnetworks(lab))
    one, rule = found["sets"][0], paper.AVERAGING
    gains = paper.gains(one, rule)
    columns = [np.array([np.nan if v is None else v for v in one["measures"][m]], float) for m in MEASURES[:2]]
    between = correlations(columns[0], columns[1])[0]
    parameters = [member["parameters"] for member in found["members"]]
    spread = 100 * (max(parameters) / min(parameters) - 1)
    with_gain = {measure: paper.correlation(one, rule, measure) or 0.0 for measure in MEASURES}
    claims = [
        Claim(
            "the correlation between the two diversity metrics is highly positive",
            f"r of attribution diversity and disagreement {between:+.2f}",
            between > STRONG,
        ),
        Claim(
            "the correlations seem strong for all metrics",
            f"r of the gain {', '.join(f'{r:+.2f} with {paper.TITLES[m]}' for m, r in with_gain.items())}",
            all(abs(r) > STRONG for r in with_gain.values()),
        ),
        Claim(
            "the actual ensemble improvement is very low, less than 0.04 %",
            f"largest gain {gains.max():.2f} points, mean {gains.mean():+.2f}",
            float(gains.max()) < 0.04,
        ),
    ]
    rows = [
        *paper.gain_rows(found, one, rule, 165),
        Comparison("largest gain", one["name"], float(gains.max()), 0.04, "points"),
        Comparison("largest subnetwork over the smallest", "parameters", spread, unit="% more"),
        Comparison("r of attribution diversity and disagreement", one["name"], finite(between), unit=""),
        *paper.correlation_rows(one, rule, MEASURES),
    ]
    alt = "Gain of each ensemble of subnetworks over its best member against three metrics."
    note = (
        "The paper says of the gains that all are below 0.04 %; its correlations are only in its picture. Our test "
        f"images make steps of {100 / one['n']:.2f} points."
    )
    drawing = Drawing("gain", alt, paper.bubbles(found, one, rule, MEASURES), "scatter")
    return Outcome(rows, claims, [drawing], decimals=2, note=note)

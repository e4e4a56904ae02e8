"""Charts of the page: inline SVG straight from the numbers of ``results.json``, one file for each kind.

A kind is ``function(results) -> charts``; its own file says what is drawn. :mod:`_axis` knows where a number stands,
:mod:`_marks` how a series looks; :mod:`_panel` and :mod:`_matrix` are the two forms of a drawing. Nothing here needs
matplotlib: figures for papers are made in the modules beside this package, of the same numbers, under the same names.
"""

from __future__ import annotations

from robustkit.records.schema import Results
from robustkit.reports._charts._chart import Chart as Chart
from robustkit.reports._charts._marks import definitions as definitions
from robustkit.reports._charts.calibration import calibration
from robustkit.reports._charts.certified import certified
from robustkit.reports._charts.corruptions import corruptions
from robustkit.reports._charts.curves import curves
from robustkit.reports._charts.detection import detection
from robustkit.reports._charts.distance import distances
from robustkit.reports._charts.diversity import diversity
from robustkit.reports._charts.ood import ood
from robustkit.reports._charts.pools import pools
from robustkit.reports._charts.transfer import transfer
from robustkit.reports._once import once

KINDS = (
    curves,
    certified,
    distances,
    transfer,
    detection,
    ood,
    calibration,
    corruptions,
    diversity,
    pools,
)  # in reading order


def charts(results: Results) -> list[Chart]:
    """Return the charts that have something to show, in reading order; reports written together share them."""
    return once(_drawn, results)


def _drawn(results: Results) -> list[Chart]:
    return [chart for kind in KINDS for chart in kind(results)]

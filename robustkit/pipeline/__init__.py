"""A whole evaluation, end to end: request, models under test, run, results, self-test.

Here the parts meet: what was asked is checked as far as it can be before anything is loaded, the models are trained or
read, the cells run, and ``results`` makes every number of ``results.json`` from the facts in the store. The self-test
runs the same evaluation on planted faults. Pages and pictures are in :mod:`robustkit.reports`, which know none of this.
"""

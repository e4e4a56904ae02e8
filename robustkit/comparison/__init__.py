"""Stored evaluations side by side: compared on the same images, or ranked. Never imports torch.

An evaluation is read as it was stored, by whichever version and on whichever machine: its numbers and verdicts from
``results.json``, what is right on which image from its runs. What cannot be compared is refused in a sentence. Tables
and pages are in the look of :mod:`robustkit.reports`; requirements of numbers are in :mod:`robustkit.gates`.
"""

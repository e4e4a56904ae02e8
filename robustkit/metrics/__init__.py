"""Metrics: pure functions of NumPy arrays. Never imports torch.

They take labels, probabilities, scores or maps and return plain numbers: calibration, detection, diversity of members,
subsets of a pool, corruption errors. They know nothing of models, files or records, and what needs a gradient is in
:mod:`robustkit.functional`. A new metric is a function here and a test of its known values; the suite that measures it
calls it.
"""

"""Tensor maths that several packages need, written once.

Norm balls, losses, randomness by sample, batching, precision, attribution maps, differentiable detection scores and
intervals: functions of tensors, arrays and callables, which know no ensembles, files or options. Maths of one attack,
defence or corruption stays in its own file, and moves here when a second package needs it.
"""

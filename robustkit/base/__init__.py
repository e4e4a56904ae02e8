"""What everything stands on: errors, the registry, values that users type, files.

The two kinds of error, the registry that finds methods, checks of what users type, progress, workers and paths: what
any package may need, and what knows nothing of images, models or attacks. Maths of tensors is in
:mod:`robustkit.functional`. A module comes here when a second package needs what was written for the first; only
``devices`` and ``parallel`` import torch.
"""

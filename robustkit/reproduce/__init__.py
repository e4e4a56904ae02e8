"""Published tables and figures, repeated: one file each, found by the registry.

A reproduction is ``function(lab) -> Outcome``. Its file holds the paper's numbers, says which ensembles it needs and
how it reads its own numbers; training, evaluating, comparing settings and writing are the lab's and the runner's. The
decorator states ``title``, ``source``, the ``datasets`` that the paper has numbers for, and the ``defenses`` and
``attacks`` that are used (and ``searches``, where architectures are searched), so that a request is checked before
torch is imported.
"""

from __future__ import annotations

from robustkit.base.registry import Registry

reproduction = Registry("reproduction", "robustkit.reproduce")
get = reproduction.get

"""Members and how they are fused, checkpoints, pools, faster copies for the attacks.

An ensemble holds members with their own normalisation inside and one fused output; our checkpoints of it are never
unpickled. A faster copy is used to craft images only after real images have shown that it agrees, and the original
judges. How members are trained is in :mod:`robustkit.training`. A new fusion rule is
one function in ``fusion`` and its name in :mod:`robustkit.base.names`.
"""

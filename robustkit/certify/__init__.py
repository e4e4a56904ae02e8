"""Certified floors: bounds of a network, or of a whole ensemble, over every image within a budget.

``reading`` observes one forward pass and notes its operations as a graph, ``operations`` and ``relaxations`` know how
to bound each of them, ``bounds`` propagates linear bounds through the graph (CROWN) and improves their slopes,
``branching`` splits what these leave open, and ``fusing`` turns bounds of members into a certificate of the fused
answer. ``smoothing`` is randomised smoothing, which needs the answers alone. What is attacked is known elsewhere: a
certificate never looks at an attack.
"""

"""What is stored: cells, facts of samples, the store, the types of ``results.json``.

A cell is one independent question, and its record holds what was seen of each sample; the store keeps one record for
each cell, written whole or not at all. Nothing is computed or judged here, so that a number can be made again without
running an attack. A new field of ``results.json`` is stated in its schema first, then filled by what measures it. Never
imports torch.
"""

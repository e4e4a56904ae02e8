"""One cell: craft, verify, record; and what runs the cells of a plan side by side.

The attack of a cell meets its ensemble here: images are crafted on a faster copy, checked against the budget and the
box, and scored by the untouched model. What was seen goes to the store, and an attack that crashes is never taken for
robustness. Which cells there are is decided in :mod:`robustkit.study`, what their numbers mean in
:mod:`robustkit.pipeline`.
"""

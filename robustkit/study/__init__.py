"""What was asked, each option stated once, and the plan that follows from it.

A study is plain data: which models, samples, attacks and budgets, and the independent cells that these ask for, each
with a key of its own in the store. A plan loads and runs nothing, so it can be made and compared without torch; only
``evaluation_data`` and ``targets`` hold the samples and their target labels. A new grid of attacks is an entry of
``presets``.
"""

"""What a person types: one command a file, each a function of its configuration.

A command checks what it can before torch is imported, calls the function of :mod:`robustkit.api` with what was asked
for, and prints the answer; nothing is computed here. Its options are made of the fields of its configuration
(:mod:`robustkit.study.config`) by ``options``, its help is its docstring, and ``robustkit.cli`` lists it. Never imports
torch by itself.
"""

"""Models of others, without trusting them: what a file is, how to run it, how it does.

``reading`` reads the file without running code from it, ``fitting`` finds the network that its weights belong to,
``detecting`` finds out on clean images how it is to be run, with the evidence, and ``running`` evaluates it like any
other. Our own checkpoints are read in :mod:`robustkit.ensembles`. A new format is one file
that turns bytes into what they hold, called by ``_formats``.
"""

"""The page that reports share: one self-contained HTML file, and the parts that it is made of.

:mod:`layout` puts a page together from ``templates/``; :mod:`sections` are its parts in reading order, with
:mod:`entries` (checks), :mod:`attack_pictures`, :mod:`explorer` (every sample), :mod:`facts` and :mod:`words`.
:mod:`pictures`, :mod:`pixels` and :mod:`packing` prepare what the last two parts show. Never imports torch.
"""

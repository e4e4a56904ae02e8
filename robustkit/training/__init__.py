"""One training loop for every defence: its recipe, steps, precision, several processes.

``spec`` holds everything that decides what a training gives, ``loop`` runs the epochs, keeps the best one on the
validation split and resumes where it was killed. A defence adds its loss or its inputs from its own file; there is no
loop of its own for any. A paper's settings are an entry of ``recipes``.
"""

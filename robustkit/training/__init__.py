"""One training loop for every defence: its recipe, steps, precision, optimisers, and several processes."""

"""Who runs the pieces of a plan, and where."""

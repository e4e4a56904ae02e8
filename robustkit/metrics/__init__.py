"""Metrics: pure functions of NumPy arrays. Never imports torch."""

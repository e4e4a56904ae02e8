"""Tensor maths that several packages need, written once: norms, losses, sampling, batching, attribution, detectors."""

"""What is stored: cells, per-sample facts, the store itself, and the types of ``results.json``. Never imports torch."""

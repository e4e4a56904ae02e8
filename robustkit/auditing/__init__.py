"""Third-party checkpoints, without trusting them: read the file (`reading`), find its network (`fitting`)."""

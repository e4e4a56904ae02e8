"""Third-party checkpoints, without trusting them: read the file (:mod:`.reading`), find its network (:mod:`.fitting`)."""

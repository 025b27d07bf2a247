"""Runs models over batches: the training loop, checkpoints, inference and hardware choices."""

"""Export checkpoints for use outside this package."""

"""The batches of a round, prepared once for all candidates that read the same input."""

"""The steps of a round: batches, forward and backward of all groups, the optimiser, the end."""

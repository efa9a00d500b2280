"""The training steps of a round: batches, forward and backward passes, the optimiser."""

"""The steps of a round: forward and backward of all groups, and the optimiser."""

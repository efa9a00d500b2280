"""The steps of a round: batches, losses and gradients of stacks, and the optimiser."""

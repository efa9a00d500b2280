"""A CUDA kernel for the training steps of a whole population."""

"""The training step of a whole population on a CUDA device, in kernels of our own."""

"""Worker processes, CUDA graphs and a CUDA kernel."""

"""What depends on where a round is computed: worker processes, CUDA graphs, a CUDA kernel."""

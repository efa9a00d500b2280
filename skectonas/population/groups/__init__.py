"""Groups of candidates: stacked weights, evaluation, and the course of their training."""

"""The native engine: a compiled library that trains populations on a CPU."""

"""Find and train a small neural network in one ``fit``."""

from skectonas.topology import ConvCell, Dense, Topology

__all__ = ["ConvCell", "Dense", "Topology"]

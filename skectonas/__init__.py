"""Find and train a small neural network in one ``fit``: ECToNAS for scikit-learn."""

from skectonas.classifier import ECToNASClassifier
from skectonas.images import PseudoImageTransformer
from skectonas.topology import ConvCell, Dense, Topology

__all__ = ["ConvCell", "Dense", "ECToNASClassifier", "PseudoImageTransformer", "Topology"]
__version__ = "0.1.0"

"""Find and train a small neural network in one ``fit``: ECToNAS for scikit-learn."""

from skectonas.classifier import ECToNASClassifier
from skectonas.images import PseudoImageTransformer
from skectonas.topology import ConvCell, Dense, Topology
from skectonas.versions import __version__ as __version__

__all__ = ["ConvCell", "Dense", "ECToNASClassifier", "PseudoImageTransformer", "Topology"]

"""Find and train a small neural network in one ``fit``: ECToNAS for scikit-learn."""

from skectonas.classifier import ECToNASClassifier
from skectonas.estimators import __version__ as __version__
from skectonas.inputs import PseudoImageTransformer
from skectonas.paper import PAPER_SETTINGS
from skectonas.topology import ConvCell, Dense, Topology, starting_topology
from skectonas.training import Augmentation
from skectonas.versions import show_versions

__all__ = [
    "PAPER_SETTINGS",
    "Augmentation",
    "ConvCell",
    "Dense",
    "ECToNASClassifier",
    "PseudoImageTransformer",
    "Topology",
    "show_versions",
    "starting_topology",
]

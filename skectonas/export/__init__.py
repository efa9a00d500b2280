"""Ways out of the process for a fitted estimator.

`saving` writes an estimator to a file, and into plain state for pickles. `conversions` turn it
into a torch module, an ONNX file or a skorch net. `portable` is the network with the scaling
of its input in front, and `files` writes a file as a whole or not at all.
"""

from skectonas.export.conversions import to_onnx, to_skorch, to_torch
from skectonas.export.portable import PortableNetwork
from skectonas.export.saving import load, plain_state, save, whole_state

__all__ = [
    "PortableNetwork",
    "load",
    "plain_state",
    "save",
    "to_onnx",
    "to_skorch",
    "to_torch",
    "whole_state",
]

"""Export of fitted estimators: files, pickles, torch, ONNX, skorch.

`ExportMixin` has the methods of the estimator. `saving` writes an estimator to a file, and into
plain state for pickles. `conversions` turn it into a torch module, an ONNX file or a skorch
net. `portable` is the network with the scaling of its input in front.
"""

from skectonas.export.methods import ExportMixin
from skectonas.export.portable import PortableNetwork

__all__ = ["ExportMixin", "PortableNetwork"]

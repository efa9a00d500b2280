"""A network with the scaling of its input: what can leave the estimator."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from skectonas.inputs import InputEncoder
from skectonas.network import TopologyNetwork, Weights, build
from skectonas.topology import Topology


class PortableNetwork(nn.Module):
    """A network that takes X as the user has it, scales it, and gives the logits.

    Parameters
    ----------
    topology : Topology or dict
        The architecture, or what its `to_dict` gives.
    encoder : InputEncoder
        The fitted encoder whose scaling goes in front of the network.
    weights : mapping of str to Tensor or None, default=None
        The named weights of the network, which are copied; None draws new ones from torch's
        global generator.

    Notes
    -----
    The input are rows of X as a tensor of any dtype: images, flat or not, or the columns of a
    numeric table, in the shape that the encoder was fitted on; of a data frame, what the
    encoder's `transform` gives, and so may it be of a numeric table. The output are the logits,
    (n, n_classes), in the dtype of the weights. The network itself is the module ``network``.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from skectonas import Dense, Topology
    >>> from skectonas.inputs import InputEncoder
    >>> from skectonas.portable import PortableNetwork
    >>> images = np.zeros((5, 8, 8), np.uint8)
    >>> topology = Topology((8, 8, 1), [], [Dense(10)], 4)
    >>> network = PortableNetwork(topology, InputEncoder().fit(images))
    >>> network(torch.from_numpy(images)).shape
    torch.Size([5, 4])
    """

    def __init__(
        self,
        topology: Topology | Mapping[str, object],
        encoder: InputEncoder,
        weights: Weights | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(topology, Topology):
            topology = Topology.from_dict(topology)
        known = encoder.to_dict()
        self.scaling: PixelScaling | ColumnScaling
        if known["columns"] is None:
            # Of a frame, the images that the encoder makes of it are the input.
            seen = known["image_shape_" if known["pixel_index"] is not None else "input_shape"]
            self.scaling = PixelScaling(
                seen, known["image_shape_"], known["early"], known["range"]
            )
        else:
            self.scaling = ColumnScaling(
                **known["columns"],
                pixel_index=known["pixel_index"],
                image_shape=known["image_shape_"],
            )
        if weights is None:
            self.network = TopologyNetwork(topology)
        else:
            self.network = build(topology, weights)

    def forward(self, X: Tensor) -> Tensor:
        """Return the logits of rows of X."""
        logits: Tensor = self.network(self.scaling(X, self.network.output.weight.dtype))
        return logits


class NamedWeights(dict[str, Tensor]):
    """Weights that are an argument: what prints the arguments need not print these."""

    def __repr__(self) -> str:
        return f"<{len(self)} tensors>"


class PixelScaling(nn.Module):
    """Images as the user has them to images as a network sees them.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of an image, or number of pixels of a flat one.
    image_shape : tuple of int
        Height, width and channels.
    early : tuple of float or None
        Offset and scale that are applied in float64 and then rounded to float32, as the
        encoder does it.
    late : tuple of float
        Offset and scale that are applied in the dtype of the network.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        image_shape: tuple[int, int, int],
        early: tuple[float, float] | None,
        late: tuple[float, float],
    ) -> None:
        super().__init__()
        self.input_shape = input_shape
        self.image_shape = image_shape
        self.early = early
        self.late = late

    def forward(self, X: Tensor, dtype: torch.dtype) -> Tensor:
        """Return images (n, height, width, channels), scaled, in the given dtype."""
        shapes = {self.input_shape}
        if len(self.input_shape) > 1:  # a channel on its own need not be an axis
            shapes |= {self.image_shape}
            shapes |= {self.image_shape[:2]} if self.image_shape[2] == 1 else set()
        _check_shape(X, shapes)
        images = X.reshape(X.shape[0], *self.image_shape)
        if self.early is not None:
            offset, scale = self.early
            images = (images.double() - offset) * scale
        offset, scale = self.late
        return (images.float().to(dtype) - offset) * scale


class ColumnScaling(nn.Module):
    """Columns of a numeric table to images as a network sees them.

    Parameters
    ----------
    low, high : ndarray of shape (n_columns,)
        What becomes 0 and 1; numbers beyond count as the nearer end.
    pixel_index : ndarray of shape (n_columns,)
        For each column, the position of its pixel in the flattened image.
    image_shape : tuple of int
        Height, width and channels.
    """

    def __init__(
        self,
        low: np.ndarray[tuple[int], np.dtype[np.float64]],
        high: np.ndarray[tuple[int], np.dtype[np.float64]],
        pixel_index: np.ndarray[tuple[int], np.dtype[np.intp]],
        image_shape: tuple[int, int, int],
    ) -> None:
        super().__init__()
        # No buffers: these would be cast with the module, and belong to no state.
        self.low, self.high = torch.from_numpy(low.copy()), torch.from_numpy(high.copy())
        # For each pixel, the column; a column of zeros behind the last serves for the others.
        columns = np.full(np.prod(image_shape), len(low))
        columns[pixel_index] = np.arange(len(low))
        self.columns = torch.from_numpy(columns)
        self.image_shape = image_shape

    def forward(self, X: Tensor, dtype: torch.dtype) -> Tensor:
        """Return images (n, height, width, channels), scaled, in the given dtype."""
        _check_shape(X, {(len(self.low),), self.image_shape})
        if X.ndim == 4:
            return X.to(dtype)  # laid out already
        low, high = self.low.to(X.device), self.high.to(X.device)
        # Halves, because high - low may be more than the largest float64.
        half = high / 2 - low / 2
        scaled = torch.minimum(torch.maximum(X.double(), low), high)
        scaled = (scaled / 2 - low / 2) / torch.where(half > 0, half, 1.0)
        table = scaled.clamp(0, 1).float().to(dtype)
        pixels = pad(table, (0, 1))[:, self.columns.to(X.device)]
        return pixels.reshape(X.shape[0], *self.image_shape)


def _check_shape(X: Tensor, shapes: set[tuple[int, ...]]) -> None:
    if tuple(X.shape[1:]) not in shapes:
        expected = " or ".join(str(("n", *shape)) for shape in sorted(shapes))
        raise ValueError(f"X: expected shape {expected}, got {tuple(X.shape)}.")

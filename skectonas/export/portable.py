"""A network with the scaling of its input: what can leave the estimator."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from skectonas.inputs import ColumnPieces, ColumnScaling, InputEncoder, PixelScaling
from skectonas.network import TopologyNetwork, Weights, build
from skectonas.topology import Topology


class PortableNetwork(nn.Module):
    """A network that takes X as the user has it, scales it, and returns the logits.

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
    The input is a tensor of any dtype. It holds rows of X in the shape that the encoder was
    fitted on: images, flat or not, or the columns of a numeric table. For a data frame, it is
    the output of the encoder's `transform`; for a numeric table, it may be. The output is the
    logits, of shape (n, n_classes), in the dtype of the weights. The network itself is the
    module ``network``.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from skectonas import Dense, Topology
    >>> from skectonas.inputs.encoder import InputEncoder
    >>> from skectonas.export.portable import PortableNetwork
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
        self.scaling: ImagesOfPixels | ImagesOfColumns
        if known["columns"] is None or encoder.takes_frames:
            # For a frame, the input are the images that the encoder makes of it.
            seen = known["image_shape_" if encoder.takes_frames else "input_shape"]
            early = known["early"]
            self.scaling = ImagesOfPixels(
                seen,
                known["image_shape_"],
                None if early is None else PixelScaling(**early),
                encoder.scaling_,
                ": encoder_.transform makes it of a frame" if encoder.takes_frames else "",
            )
        else:
            self.scaling = ImagesOfColumns(
                ColumnScaling.from_dict(known["columns"]),
                pixel_index=known["pixel_index"],
                image_shape=known["image_shape_"],
            )
        if weights is None:
            self.network = TopologyNetwork(topology)
        else:
            self.network = build(topology, weights)

    def forward(self, X: Tensor) -> Tensor:
        """Return the logits of rows of X."""
        if not isinstance(X, Tensor):
            raise TypeError(
                f"X must be a tensor, got an object of type {type(X).__name__}: give "
                "torch.from_numpy(X) for an array, and "
                "torch.from_numpy(encoder_.transform(X)) for a data frame."
            )
        logits: Tensor = self.network(self.scaling(X, self.network.output.weight.dtype))
        return logits


class NamedWeights(dict[str, Tensor]):
    """Weights that are an argument: what prints the arguments need not print these."""

    def __repr__(self) -> str:
        return f"<{len(self)} tensors>"


class ImagesOfPixels(nn.Module):
    """Turns images as the user has them into images as a network sees them.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of an image, or number of pixels of a flat one.
    image_shape : tuple of int
        Height, width and channels.
    early : PixelScaling or None
        A scaling in float64, after which pixels are rounded to float32, as by the encoder.
    late : PixelScaling
        A scaling in the dtype of the network.
    advice : str, default=""
        What the error of another shape says at its end.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        image_shape: tuple[int, int, int],
        early: PixelScaling | None,
        late: PixelScaling,
        advice: str = "",
    ) -> None:
        super().__init__()
        self.input_shape = input_shape
        self.image_shape = image_shape
        self.early = early
        self.late = late
        self.advice = advice

    def forward(self, X: Tensor, dtype: torch.dtype) -> Tensor:
        """Return images (n, height, width, channels), scaled, in the given dtype."""
        shapes = {self.input_shape}
        if len(self.input_shape) > 1:  # a single channel need not be an axis
            shapes |= {self.image_shape}
            shapes |= {self.image_shape[:2]} if self.image_shape[2] == 1 else set()
        _check_shape(X, shapes, self.advice)
        images = X.reshape(X.shape[0], *self.image_shape)
        if self.early is not None:
            images = self.early.apply_to_tensor(images, torch.float64)
        return self.late.apply_to_tensor(images.float(), dtype)


class ImagesOfColumns(nn.Module):
    """Turns columns of a numeric table into images as a network sees them.

    Parameters
    ----------
    scaling : ColumnScaling
        The maps of the columns, which are repeated here operation for operation.
    pixel_index : ndarray of shape (n_out,)
        For each column that comes out of them, the position of its pixel in the flattened
        image.
    image_shape : tuple of int
        Height, width and channels.
    """

    def __init__(
        self,
        scaling: ColumnScaling,
        pixel_index: np.ndarray[tuple[int], np.dtype[np.intp]],
        image_shape: tuple[int, int, int],
    ) -> None:
        super().__init__()
        # Not buffers, which would be cast with the module and enter its state.
        knots, scores = scaling.knots / 2, scaling.scores
        self.knots = torch.from_numpy(knots)
        self.scores = torch.from_numpy(scores.copy())
        # A tensor, because the ONNX exporter turns plain numbers into float32, in which the
        # least width is zero.
        widths = np.diff(knots, append=knots[:, -1:])
        self.widths = torch.from_numpy(np.maximum(widths, np.finfo(np.float64).tiny))
        self.rises = torch.from_numpy(np.diff(scores, append=scores[:, -1:]))
        self.missing = torch.from_numpy(scaling.missing.copy())
        self.indicated = torch.from_numpy(scaling.indicated.copy())
        self.indicators = torch.from_numpy(scaling.indicators.copy())
        self.pieces = None if scaling.pieces is None else Pieces(scaling.pieces)
        # For each pixel, the number of its column among the values, the indicators, the pieces
        # and, after the last, a column of zeros for the pixels that are left over.
        n_values, n_out = len(scaling.knots), len(scaling.origin)
        columns = np.arange(n_out)
        whole = columns[: scaling.n_whole]
        whole[~scaling.is_indicator] = np.arange(n_values)
        whole[scaling.is_indicator] = np.arange(n_values, scaling.n_whole)
        pixels = np.full(np.prod(image_shape), n_out)
        pixels[pixel_index] = columns
        self.columns = torch.from_numpy(pixels)
        self.image_shape = image_shape

    def forward(self, X: Tensor, dtype: torch.dtype) -> Tensor:
        """Return images (n, height, width, channels), scaled, in the given dtype."""
        _check_shape(X, {(len(self.knots),), self.image_shape})
        if X.ndim == 4:
            return X.to(dtype)  # laid out already
        knots = self.knots.to(X.device)
        half = X.double() / 2
        missing = half.isnan()
        half = torch.minimum(torch.maximum(half, knots[:, 0]), knots[:, -1])
        segment = torch.zeros_like(X, dtype=torch.int64)
        for k in range(1, knots.shape[1] - 1):
            segment = segment + (half >= knots[:, k])
        at = segment + torch.arange(len(knots), device=X.device) * knots.shape[1]
        low, first, width, rise = (
            of_knots.to(X.device).flatten()[at]
            for of_knots in (knots, self.scores, self.widths, self.rises)
        )
        values = first + (half - low) / width * rise
        values = torch.where(missing, self.missing.to(X.device), values)
        present, absent = self.indicators.to(X.device).unbind(1)
        indicators = torch.where(missing[:, self.indicated.to(X.device)], absent, present)
        parts = [values, indicators]
        if self.pieces is not None:
            parts.append(self.pieces(X))
        table = torch.cat(parts, 1).float().to(dtype)
        pixels = pad(table, (0, 1))[:, self.columns.to(X.device)]
        return pixels.reshape(X.shape[0], *self.image_shape)


class Pieces(nn.Module):
    """Cuts columns into pieces.

    Parameters
    ----------
    pieces : ColumnPieces
        The pieces, which are repeated here operation for operation.
    """

    def __init__(self, pieces: ColumnPieces) -> None:
        super().__init__()
        # Not buffers, as above.
        self.columns = torch.from_numpy(pieces.columns.copy())
        self.begin = torch.from_numpy(pieces.begin.copy())
        self.end = torch.from_numpy(pieces.end.copy())
        widths = np.maximum(pieces.end / 2 - pieces.begin / 2, np.finfo(np.float64).tiny)
        self.widths = torch.from_numpy(widths)
        self.mean = torch.from_numpy(pieces.mean.copy())
        self.factor = torch.from_numpy(pieces.factor.copy())

    def forward(self, X: Tensor) -> Tensor:
        """Return the pieces of the columns of X, in float64."""
        own = X.double()[:, self.columns.to(X.device)]
        begin, end, widths, mean, factor = (
            values.to(X.device)
            for values in (self.begin, self.end, self.widths, self.mean, self.factor)
        )
        inside = torch.minimum(torch.maximum(own, begin), end)
        pieces = ((inside / 2 - begin / 2) / widths - mean) * factor
        return torch.where(own.isnan(), torch.zeros_like(pieces), pieces)


def _check_shape(X: Tensor, shapes: set[tuple[int, ...]], advice: str = "") -> None:
    if tuple(X.shape[1:]) not in shapes:
        expected = " or ".join(str(("n", *shape)) for shape in sorted(shapes))
        raise ValueError(f"X: expected shape {expected}, got {tuple(X.shape)}{advice}.")

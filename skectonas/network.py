"""The `torch.nn.Module` of a topology, and its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import TypeAlias, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, batch_norm, max_pool2d

from skectonas.topology import (
    KERNEL,
    OUTPUT,
    ConvCell,
    Pooling,
    Topology,
    conv_name,
    linear_name,
    norm_name,
)

Weights: TypeAlias = Mapping[str, Tensor]
"""Named weights on the CPU, as in `TopologyNetwork.state_dict`."""

# The default of Keras, which the authors of the paper use. It is larger than that of torch, so
# that a channel that is nearly constant on the data is scaled up less.
BATCH_NORM_EPSILON = 1e-3


def pool(maps: Tensor, pooling: Pooling | None) -> Tensor:
    """Pool 2x2 windows with stride 2, if at all; the last window of an odd side is smaller."""
    if pooling is None:
        return maps
    if pooling == "max":
        return max_pool2d(maps, 2, ceil_mode=True)
    return avg_pool2d(maps, 2, ceil_mode=True)


def channel_statistics(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of each channel of maps (n, channels, height, width).

    The variance is that of the training mode of a batch normalisation: it divides by the number
    of values, not by one less.
    """
    mean = maps.mean((0, 2, 3))
    variance = (maps - mean.view(1, -1, 1, 1)).square_().mean((0, 2, 3))
    return mean, variance


class Cell(nn.Module):
    """Convolution, pooling if there is one, batch normalisation and relu."""

    def __init__(self, channels_in: int, cell: ConvCell) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, cell.channels, KERNEL, padding=1, bias=False)
        self.pooling = cell.pooling
        self.norm = nn.BatchNorm2d(cell.channels, eps=BATCH_NORM_EPSILON)

    def convolve(self, maps: Tensor) -> Tensor:
        """Return the pooled convolution, which is the input of the batch normalisation."""
        return pool(self.conv(maps), self.pooling)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (n, channels_in, h, w) to (n, channels, ceil(h / 2), ceil(w / 2)).

        Without pooling, height and width stay the same.
        """
        z, norm = self.convolve(maps), self.norm
        if self.training and z.numel() == norm.num_features:
            # A single value has no variance. The last batch of a data loader may be one row.
            moments = norm.running_mean, norm.running_var
            return torch.relu(batch_norm(z, *moments, norm.weight, norm.bias, eps=norm.eps))
        return torch.relu(norm(z))

    def calibrate(self, maps: Tensor) -> Tensor:
        """Set the running statistics to those of `maps`; return the output of the cell."""
        z = self.convolve(maps)
        mean, variance = channel_statistics(z)
        norm = self.norm
        cast(Tensor, norm.running_mean).copy_(mean)
        cast(Tensor, norm.running_var).copy_(variance)
        return torch.relu(batch_norm(z, mean, variance, norm.weight, norm.bias, eps=norm.eps))


class TopologyNetwork(nn.Module):
    """The network of a topology.

    Parameters
    ----------
    topology : Topology or dict
        The architecture, or the result of its `to_dict`.

    Notes
    -----
    The input has shape (n, height, width, channels), with the channels last as in the data. The
    output are the logits, of shape (n, n_classes). The trained weights have the names of
    `Topology.weight_shapes`. The running statistics have the names
    ``cells.<i>.norm.running_mean`` and ``cells.<i>.norm.running_var``.

    Examples
    --------
    >>> import torch
    >>> from skectonas import ConvCell, Dense, Topology
    >>> from skectonas.network import TopologyNetwork
    >>> network = TopologyNetwork(Topology((8, 8, 1), [ConvCell(3)], [Dense(10)], 4))
    >>> network(torch.zeros(5, 8, 8, 1)).shape
    torch.Size([5, 4])
    """

    def __init__(self, topology: Topology | Mapping[str, object]) -> None:
        super().__init__()
        if not isinstance(topology, Topology):
            topology = Topology.from_dict(topology)
        self.topology = topology
        self.cells = nn.ModuleList(
            Cell(channels, cell)
            for channels, cell in zip(topology.channels, topology.cells, strict=False)
        )
        *hidden, output = [nn.Linear(*widths) for widths in pairwise(topology.widths)]
        self.dense = nn.ModuleList(hidden)
        self.output = output

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images (n, height, width, channels)."""
        maps = images.permute(0, 3, 1, 2)
        for cell in self.cells:
            maps = cell(maps)
        values = maps.flatten(1)
        for layer in self.dense:
            values = torch.relu(layer(values))
        logits: Tensor = self.output(values)
        return logits

    @torch.no_grad()
    def calibrate(self, images: Tensor) -> None:
        """Set the running statistics to those of `images` under the current weights.

        The output in evaluation mode is then that of the training mode with these images as one
        batch. A moving average would lag behind the weights: after a change of the
        architecture, a good network could be as bad as chance.
        """
        maps = images.permute(0, 3, 1, 2)
        for cell in self.cells:
            maps = cast(Cell, cell).calibrate(maps)


def build(topology: Topology, weights: Weights) -> TopologyNetwork:
    """Return the network of a topology with a copy of the given weights, in training mode.

    Raises
    ------
    RuntimeError
        If a weight is missing, unknown, or has a wrong shape.
    """
    # Weights that are created in inference mode could not be trained. The counters of batch
    # normalisation, which are not among the weights, are created on the default device.
    with torch.inference_mode(False), torch.device("cpu"):
        # On the meta device, torch's global generator is not used.
        with torch.device("meta"):
            network = TopologyNetwork(topology)
        copies = {name: value.clone() for name, value in weights.items()}
        network.load_state_dict(copies, strict=True, assign=True)
        return network


def dtype_of(weights: Weights) -> torch.dtype:
    """Return the type of a network's weights."""
    return weights[f"{OUTPUT}.weight"].dtype


def weights_of(network: TopologyNetwork) -> dict[str, Tensor]:
    """Return a copy of the network's weights on the CPU."""
    return {
        name: value.detach().to("cpu", copy=True)
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def initial_weights(topology: Topology, rng: np.random.Generator) -> dict[str, Tensor]:
    """Draw the weights of a new network: Glorot uniform, with biases of zero.

    Parameters
    ----------
    topology : Topology
        The architecture.
    rng : numpy.random.Generator
        Source of the random numbers.

    Returns
    -------
    dict of str to Tensor
        Named weights, float32.
    """
    shapes = topology.weight_shapes
    weights: dict[str, Tensor] = {}
    for i, cell in enumerate(topology.cells):
        name = f"{conv_name(i)}.weight"
        weights[name] = glorot(shapes[name], rng)
        weights |= identity_norm(norm_name(i), cell.channels)
    for i in range(len(topology.dense) + 1):
        weight, bias = (f"{linear_name(topology, i)}.{name}" for name in ("weight", "bias"))
        weights[weight] = glorot(shapes[weight], rng)
        weights[bias] = torch.zeros(shapes[bias], dtype=torch.float32, device="cpu")
    return weights


def glorot(shape: tuple[int, ...], rng: np.random.Generator) -> Tensor:
    """Draw weights of the given shape (out, in, ...), Glorot uniform."""
    receptive = math.prod(shape[2:])
    limit = math.sqrt(6 / ((shape[0] + shape[1]) * receptive))
    # Copied to memory of torch, whose alignment does not change the bits of a product.
    return torch.tensor(rng.uniform(-limit, limit, shape), dtype=torch.float32, device="cpu")


def identity_norm(name: str, channels: int) -> dict[str, Tensor]:
    """Return the weights of a new batch normalisation."""
    return {
        f"{name}.weight": torch.ones(channels, dtype=torch.float32, device="cpu"),
        f"{name}.bias": torch.zeros(channels, dtype=torch.float32, device="cpu"),
        f"{name}.running_mean": torch.zeros(channels, dtype=torch.float32, device="cpu"),
        f"{name}.running_var": torch.ones(channels, dtype=torch.float32, device="cpu"),
    }

"""The losses of all candidates of a stack: `skectonas.network`, for many networks at once."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, batch_norm, conv2d, cross_entropy

from skectonas.network import BATCH_NORM_EPSILON, pool
from skectonas.population.run.batches import Batch
from skectonas.topology import Pooling, Topology, conv_name, linear_name, norm_name


def losses(topology: Topology, weights: Mapping[str, Tensor], batch: Batch) -> Tensor:
    """Return the loss of each candidate.

    Parameters
    ----------
    topology : Topology
        The padded topology of the stack.
    weights : mapping of str to Tensor
        Stacked weights: the first axis is that of the candidates.
    batch : Batch
        The rows.

    Returns
    -------
    Tensor of shape (candidates,)
        The sum of the losses of the rows, each times its share.
    """
    logits = logits_of(topology, weights, batch.images)
    labels = batch.labels.expand(len(logits), -1)
    return cross_entropy(logits, labels, reduction="none") @ batch.shares


def logits_of(topology: Topology, weights: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """Return the logits (candidates, classes, rows) of images in training mode."""
    n = len(weights[f"{linear_name(topology, 0)}.bias"])
    maps = images.permute(0, 3, 1, 2)
    if maps.is_cuda:
        maps = maps.contiguous()  # the layout that cuDNN has most algorithms for
    for i, cell in enumerate(topology.cells):
        kernel = weights[f"{conv_name(i)}.weight"].flatten(0, 1)
        # All candidates read the same images, and then maps of their own: the channels of the
        # first candidate come first, and so on.
        z = pooled_convolution(maps, kernel, cell.pooling, groups=n if i else 1)
        gamma, beta = (
            weights[f"{norm_name(i)}.{name}"].flatten() for name in ("weight", "bias")
        )
        maps = torch.relu(
            batch_norm(z, None, None, gamma, beta, training=True, eps=BATCH_NORM_EPSILON)
        )
    # With the rows last, a product is that of a matrix with the weights on its left.
    x = maps.reshape(len(images), -1, topology.n_flat).permute(1, 2, 0)
    x = x.expand(n, -1, -1)
    for i in range(len(topology.dense) + 1):
        name = linear_name(topology, i)
        x = torch.baddbmm(weights[f"{name}.bias"].unsqueeze(-1), weights[f"{name}.weight"], x)
        if i < len(topology.dense):
            x = torch.relu(x)
    return x


def pooled_convolution(
    maps: Tensor, kernel: Tensor, pooling: Pooling | None, groups: int
) -> Tensor:
    """Return the pooled convolution of maps (rows, channels, height, width).

    Convolution and average pooling are linear. On maps with even sides the pooling comes first,
    which takes a quarter of the multiplications; the last window of an odd side is smaller.
    """
    height, width = maps.shape[-2:]
    if pooling == "average" and height % 2 == width % 2 == 0:
        means = avg_pool2d(maps, 2, stride=1, padding=1)
        return conv2d(means, kernel, stride=2, groups=groups)
    return pool(conv2d(maps, kernel, padding=1, groups=groups), pooling)

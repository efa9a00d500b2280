"""Fitting a dense layer to its previous outputs after the layers before it have changed."""

from __future__ import annotations

import torch
from torch import Tensor

from skectonas.morphisms.activations import Activations
from skectonas.network import Weights
from skectonas.topology import Topology, ceil_div, linear_name

RIDGE = 1e-2
"""Penalty on changes of the weights, relative to the mean square of the layer's inputs."""


def reconnect_first_dense(
    child: Weights, new: Topology, parent: Activations
) -> dict[str, Tensor]:
    """Fit the first dense layer to its outputs in the parent: see `reconnect`."""
    return reconnect(child, new, 0, parent.outputs_of(0), parent)


def reconnect(
    weights: Weights,
    topology: Topology,
    layer: int,
    wanted: Tensor,
    parent: Activations,
) -> dict[str, Tensor]:
    """Fit a dense layer to its outputs before the layers in front of it changed.

    First the running statistics of the changed cells, and of the cells after them, are set to
    those of the images. Then the difference between the wanted and the present outputs is
    fitted by ridge regression, and the solution is added to the weights of the layer. So the
    weights do not change in directions in which the images do not vary.

    Parameters
    ----------
    weights : mapping of str to Tensor
        Weights of the changed network.
    topology : Topology
        Its architecture.
    layer : int
        Index of the dense layer; the output layer has the index after the last dense layer.
    wanted : Tensor of shape (n, units)
        The previous outputs of the layer, without the activation.
    parent : Activations
        Activations of the network before the change, on the same images.

    Returns
    -------
    dict of str to Tensor
    """
    changed = Activations(weights, topology, parent.images, parent)
    inputs = changed.inputs_of(layer)
    missing = (wanted - changed.outputs_of(layer)).to(inputs)
    mean, shift = inputs.mean(0), missing.mean(0)
    change = ridge_regression(inputs - mean, missing - shift, RIDGE)
    name = linear_name(topology, layer)
    moved = {f"{name}.weight": change.T, f"{name}.bias": shift - mean @ change}
    fitted = {key: (weights[key] + by).to(weights[key]) for key, by in moved.items()}
    return {**weights, **changed.running_statistics(), **fitted}


def ridge_regression(inputs: Tensor, targets: Tensor, ridge: float) -> Tensor:
    """Return the weights (inputs, targets) of a ridge regression without intercept.

    Products are computed in the precision of the inputs, or in float64 if that is not enough;
    the equations are solved in float64.
    """
    n_rows, n_inputs = inputs.shape
    few_inputs = n_inputs <= n_rows
    rows = inputs.T if few_inputs else inputs
    penalty = ridge * inputs.square().sum() / n_inputs + torch.finfo(inputs.dtype).tiny
    equations = _lower_gram(rows).double()
    equations.diagonal().add_(penalty)
    factor, failed = torch.linalg.cholesky_ex(equations)
    if failed and inputs.dtype != torch.float64:
        # If one direction of many inputs dominates, the rounding exceeds the penalty.
        return ridge_regression(inputs.double(), targets.double(), ridge).to(inputs)
    if few_inputs:
        return torch.cholesky_solve((inputs.T @ targets).double(), factor).to(inputs)
    return inputs.T @ torch.cholesky_solve(targets.double(), factor).to(inputs)


def _lower_gram(rows: Tensor) -> Tensor:
    """Return the products of all rows; some above the diagonal are left zero, for speed."""
    size = ceil_div(len(rows), 4)
    gram = rows.new_zeros(len(rows), len(rows))
    for start in range(0, len(rows), size):
        end = start + size
        gram[start:end, :end] = rows[start:end] @ rows[:end].T
    return gram

"""What the layers see of the data, and how a layer is fitted to go on as before."""

from __future__ import annotations

import torch
from torch import Tensor

from skectonas.network import Weights, build, weights_of
from skectonas.topology import Topology, linear_name


def maps_behind(weights: Weights, topology: Topology, n_cells: int, images: Tensor) -> Tensor:
    """Return the maps behind `n_cells` cells: (n, channels, height, width), float64."""
    network = build(topology, weights).double().eval()
    with torch.no_grad():
        return network.maps_behind(images.double(), n_cells)


def activations(weights: Weights, topology: Topology, images: Tensor, layer: int) -> Tensor:
    """Return what dense layer `layer` sees of the images in evaluation mode, in float64."""
    network = build(topology, weights).double().eval()
    with torch.no_grad():
        return network.inputs_of(images.double(), layer)


def reconnect_first_dense(
    child: Weights, new: Topology, parent: Weights, old: Topology, images: Tensor
) -> dict[str, Tensor]:
    """Let the first dense layer put out what it put out in the parent."""
    name = linear_name(old, 0)
    inputs = activations(parent, old, images, 0)
    wanted = inputs @ parent[f"{name}.weight"].double().T + parent[f"{name}.bias"].double()
    return reconnect(child, new, 0, wanted, images)


def reconnect(
    weights: Weights,
    topology: Topology,
    layer: int,
    wanted: Tensor,
    images: Tensor,
    ridge: float = 1e-2,
) -> dict[str, Tensor]:
    """Let a dense layer put out what it put out before the layers in front of it changed.

    The running statistics are set to those of the changed network, then the layer's weights are
    moved by the ridge regression of what is missing, so that directions that the images say
    nothing about keep the weights that were carried over.

    Parameters
    ----------
    weights : mapping of str to Tensor
        Weights of the changed network.
    topology : Topology
        Its architecture.
    layer : int
        Index of the dense layer; the one behind the last is the output layer.
    wanted : Tensor of shape (n, units)
        What the layer put out before, without the activation.
    images : Tensor of shape (n, height, width, channels)
        The images for which it did.
    ridge : float, default=1e-2
        Penalty, relative to the mean square of the layer's inputs.

    Returns
    -------
    dict of str to Tensor
    """
    network = build(topology, weights).double().eval()
    images = images.double()
    network.calibrate(images)
    with torch.no_grad():
        inputs = network.inputs_of(images, layer)
    name = linear_name(topology, layer)
    parameters = network.get_submodule(name)
    missing = wanted - parameters(inputs).detach()
    mean, shift = inputs.mean(0), missing.mean(0)
    change = ridge_regression(inputs - mean, missing - shift, ridge)
    calibrated = weights_of(network)
    calibrated[f"{name}.weight"] += change.T
    calibrated[f"{name}.bias"] += shift - mean @ change
    return {key: value.to(weights[key].dtype) for key, value in calibrated.items()}


def ridge_regression(inputs: Tensor, targets: Tensor, ridge: float) -> Tensor:
    """Return the weights (inputs, targets) of a ridge regression without intercept."""
    n_rows, n_inputs = inputs.shape
    penalty = ridge * inputs.square().sum() / n_inputs + torch.finfo(inputs.dtype).tiny
    eye = torch.eye(min(n_rows, n_inputs), dtype=inputs.dtype, device=inputs.device)
    if n_inputs <= n_rows:
        weights: Tensor = torch.linalg.solve(
            inputs.T @ inputs + penalty * eye, inputs.T @ targets
        )
        return weights
    dual: Tensor = torch.linalg.solve(inputs @ inputs.T + penalty * eye, targets)
    return inputs.T @ dual

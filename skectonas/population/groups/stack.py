"""The trained weights of a group of candidates as one flat tensor, one block per layer kind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from skectonas.candidate import Candidate
from skectonas.network import dtype_of
from skectonas.topology import Topology

Views: TypeAlias = Mapping[str, Tensor]
"""Stacked weights by name, (candidate, ...): windows into one flat tensor."""

_ALIGNMENT = 16  # elements; blocks of matrix products begin on cache lines


class Slot(NamedTuple):
    """Where the stacked weights of one name lie in the flat tensor."""

    offset: int
    shape: tuple[int, ...]

    def view(self, flat: Tensor) -> Tensor:
        """Return this block of a flat tensor, shaped."""
        return flat[self.offset : self.offset + math.prod(self.shape)].view(self.shape)


def corner(shape: Sequence[int]) -> tuple[slice, ...]:
    """Return where a candidate's own weight lies in its padded one.

    Flatten counts channel by channel, so that this holds behind flatten too: the columns of
    the padded channels come last.
    """
    return tuple(slice(size) for size in shape)


class Stack:
    """The trained weights of candidates of one skeleton, padded with zeros to common widths.

    Units and channels whose weights, gamma and beta are all zero get gradients of exactly zero
    under relu: the padding stays zero, and no masks are needed.

    Parameters
    ----------
    topology : Topology
        The padded topology: at least as wide as each of the members.
    members : sequence of Topology
        The candidates' own topologies.
    dtype : torch.dtype
        Of the weights.
    device : torch.device
        Where the weights lie.

    Attributes
    ----------
    flat : Tensor of shape (n,)
        All weights, zeros at first. One tensor, so that an optimiser has one to step.
    slots : dict of str to Slot
        Where each name lies in `flat`.
    n_small : int
        Where the matrices of dense layers begin in `flat`: they come last.
    views : dict of str to Tensor
        Windows into `flat`.
    """

    def __init__(
        self,
        topology: Topology,
        members: Sequence[Topology],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.topology = topology
        self.members = tuple(members)
        self.slots: dict[str, Slot] = {}
        end = self.n_small = 0
        shapes = topology.weight_shapes.items()
        for name, shape in sorted(shapes, key=lambda item: _is_matrix(item[1])):
            slot = Slot(end, (len(self.members), *shape))
            self.slots[name] = slot
            end += -(-math.prod(slot.shape) // _ALIGNMENT) * _ALIGNMENT
            if not _is_matrix(shape):
                self.n_small = end
        self.flat = torch.zeros(end, dtype=dtype, device=device)
        self.views = self.views_of(self.flat)

    def __len__(self) -> int:
        return len(self.members)

    def move_to(self, storage: Tensor) -> None:
        """Let the weights lie in this tensor, as long as `flat`, from now on."""
        self.flat = storage.copy_(self.flat)
        self.views = self.views_of(storage)

    def views_of(self, flat: Tensor) -> dict[str, Tensor]:
        """Return the blocks of a tensor that is laid out as `flat` is, by name."""
        return {name: slot.view(flat) for name, slot in self.slots.items()}

    def take(self, keep: Sequence[int], source: Tensor | None = None) -> Stack:
        """Return a stack with copies of some of the members.

        Their weights come from `source`, laid out as `flat` is, or from `flat`.
        """
        members = [self.members[i] for i in keep]
        taken = Stack(self.topology, members, self.flat.dtype, self.flat.device)
        self.take_into(taken, self.flat if source is None else source, taken.flat, keep)
        return taken

    def take_into(
        self, taken: Stack, source: Tensor, target: Tensor, keep: Sequence[int]
    ) -> None:
        """Copy what some members have in `source`, laid out as here, to that of `taken`."""
        for name, slot in self.slots.items():
            taken.slots[name].view(target).copy_(slot.view(source)[list(keep)])

    def weights_of(self, member: int) -> dict[str, Tensor]:
        """Return copies of the trained weights of a member, without padding, on the CPU."""
        return {
            name: self.views[name][member][corner(shape)].detach().cpu().clone()
            for name, shape in self.members[member].weight_shapes.items()
        }


def _is_matrix(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2


def stacked(topology: Topology, candidates: Sequence[Candidate], device: torch.device) -> Stack:
    """Return the stack of these candidates, padded to the widths of a topology."""
    dtype = dtype_of(candidates[0].weights)
    stack = Stack(topology, [c.topology for c in candidates], dtype, device)
    for member, candidate in enumerate(candidates):
        for name, shape in candidate.topology.weight_shapes.items():
            stack.views[name][member][corner(shape)] = candidate.weights[name].to(device)
    return stack

"""The trained weights of a group of candidates as one flat tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from skectonas.candidate import Candidate
from skectonas.network import dtype_of
from skectonas.topology import Topology, ceil_div

_ALIGNMENT = 16  # values; every block begins on a cache line


class Block(NamedTuple):
    """Place of the stacked weights of one name in the flat tensor."""

    offset: int
    shape: tuple[int, ...]

    def view(self, flat: Tensor) -> Tensor:
        """Return this block of a flat tensor."""
        return flat[self.offset : self.offset + math.prod(self.shape)].view(self.shape)


def corner(shape: Sequence[int]) -> tuple[slice, ...]:
    """Return the index of a candidate's own weight in its padded weight.

    It is also valid for the layer after flatten: the channel is the slowest axis of flatten, so
    the columns of the padded channels come last.
    """
    return tuple(slice(size) for size in shape)


class Stack:
    """The trained weights of candidates of one skeleton, padded with zeros to common widths.

    The gradients of a unit or channel are exactly zero if its weights, gamma and beta are zero
    and relu follows. So the padding stays zero, and no masks are needed.

    Parameters
    ----------
    topology : Topology
        The padded topology, at least as wide as each of the members.
    members : sequence of Topology
        The topologies of the candidates.
    dtype : torch.dtype
        Type of the weights.
    device : torch.device
        Device of the weights.

    Attributes
    ----------
    flat : Tensor of shape (n,)
        All weights, initially zero.
    blocks : dict of str to Block
        Place of each name in `flat`.
    views : dict of str to Tensor
        Views of `flat`.
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
        self.blocks: dict[str, Block] = {}
        end = 0
        for name, shape in topology.weight_shapes.items():
            block = Block(end, (len(self.members), *shape))
            self.blocks[name] = block
            end += ceil_div(math.prod(block.shape), _ALIGNMENT) * _ALIGNMENT
        self.flat = torch.zeros(end, dtype=dtype, device=device)
        self.views = self.views_of(self.flat)

    def __len__(self) -> int:
        return len(self.members)

    def move_to(self, storage: Tensor) -> None:
        """Move the weights to another tensor, which has the size of `flat`."""
        self.flat = storage.copy_(self.flat)
        self.views = self.views_of(storage)

    def views_of(self, flat: Tensor) -> dict[str, Tensor]:
        """Return the blocks by name of a tensor in the layout of `flat`."""
        return {name: block.view(flat) for name, block in self.blocks.items()}

    def take(self, keep: Sequence[int], source: Tensor | None = None) -> Stack:
        """Return a stack with copies of some of the members.

        The weights come from `source`, a tensor in the layout of `flat`, by default `flat`.
        """
        members = [self.members[i] for i in keep]
        taken = Stack(self.topology, members, self.flat.dtype, self.flat.device)
        self.take_into(taken, self.flat if source is None else source, taken.flat, keep)
        return taken

    def take_into(
        self, taken: Stack, source: Tensor, target: Tensor, keep: Sequence[int]
    ) -> None:
        """Copy some members from `source`, in this layout, to `target`, in that of `taken`."""
        for name, block in self.blocks.items():
            taken.blocks[name].view(target).copy_(block.view(source)[list(keep)])

    def weights_of(self, member: int, source: Tensor) -> dict[str, Tensor]:
        """Return views of the trained weights of a member, without padding.

        They are those of `source`, a tensor in the layout of `flat`.
        """
        views = self.views_of(source)
        return {
            name: views[name][member][corner(shape)]
            for name, shape in self.members[member].weight_shapes.items()
        }


def stacked(topology: Topology, candidates: Sequence[Candidate], device: torch.device) -> Stack:
    """Return the stack of some candidates, padded to the widths of a topology."""
    dtype = dtype_of(candidates[0].weights)
    stack = Stack(topology, [c.topology for c in candidates], dtype, device)
    for member, candidate in enumerate(candidates):
        for name, shape in candidate.topology.weight_shapes.items():
            stack.views[name][member][corner(shape)] = candidate.weights[name].to(device)
    return stack

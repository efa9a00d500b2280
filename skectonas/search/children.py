"""The children of a candidate: every morphism at every site."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from torch import Tensor

from skectonas.candidate import Candidate
from skectonas.morphisms import Activations, Context, Morphism
from skectonas.search.settings import Settings
from skectonas.topology import multiplications


def children_of(
    blank: Candidate,
    settings: Settings,
    images: Tensor,
    ids: Iterator[int],
    rng: np.random.Generator,
    check: Callable[[], None],
) -> Iterator[Candidate]:
    """Yield the children of a candidate; degenerate ones are rejected.

    Parameters
    ----------
    blank : Candidate
        The parent, with all that its children have in common.
    settings : Settings
        The morphisms and the caps on the size.
    images : Tensor of shape (n, height, width, channels)
        Training images, for the morphisms that look at data.
    ids : iterator of int
        The numbers of the children.
    rng : numpy.random.Generator
        Source of the random draws.
    check : callable
        Is called before each child, and may raise to give up.
    """
    seen = Activations(blank.weights, blank.topology, images)
    context = Context(rng, images, seen)
    for morphism in settings.morphisms:
        for site in morphism.sites(blank.topology):
            check()
            child = _child(blank, settings, ids, morphism, site, context)
            if child is not None and child.is_finite:
                yield child


def _child(
    blank: Candidate,
    settings: Settings,
    ids: Iterator[int],
    morphism: Morphism,
    site: int,
    context: Context,
) -> Candidate | None:
    """Return a child, or None if it is too large."""
    old = blank.topology
    new = morphism.rewrite(old, site, context.rng)
    most = (1 + settings.max_growth) * old.n_parameters
    if new.n_parameters > min(most, settings.max_parameters):
        return None
    # A network that a warm start continues with may be above the limit.
    if multiplications(new) > max(settings.max_multiplications, multiplications(old)):
        return None
    return replace(
        blank,
        id=next(ids),
        topology=new,
        weights=morphism.carry(blank.weights, old, new, site, context),
        morphism=morphism.name,
    )

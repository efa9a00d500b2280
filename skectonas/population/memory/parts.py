"""Parts of a round that are trained one after the other, so that each fits in the memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from skectonas.candidate import Candidate
from skectonas.population.groups.grouping import Group
from skectonas.population.groups.ways import Planned
from skectonas.population.memory.needs import Need, bytes_of


class Part(NamedTuple):
    """Groups that are trained at the same time, and the number of workers."""

    planned: list[Planned]
    n_workers: int


def parts_that_fit(
    planned: Sequence[Planned],
    candidates: Sequence[Candidate],
    need_of: Callable[[Planned], Need],
    n_workers: int,
    free: int,
) -> tuple[list[Part], list[Planned]]:
    """Divide a round into parts that fit in the memory, if it does not fit as a whole.

    The smallest groups come first. A group that does not fit is trained by fewer workers; if it
    is a stack, its candidates are trained one by one.

    Parameters
    ----------
    planned : sequence of Planned
        The groups of the round.
    candidates : sequence of Candidate
        Those whose indices the members of groups are.
    need_of : callable
        Returns what a group needs.
    n_workers : int
        Number of workers.
    free : int
        Bytes that a part may take, together with the results of the parts before.

    Returns
    -------
    parts : list of Part
        A single one, with the groups in their order, if all of them fit together.
    others : list of Planned
        The candidates that do not fit, not even alone with one worker.
    """
    known = [(need_of(own), own) for own in planned]
    if bytes_of([need for need, _ in known], n_workers) <= free:
        return [Part(list(planned), n_workers)], []
    known.sort(key=lambda pair: bytes_of([pair[0]], n_workers=1))
    parts: list[Part] = []
    others: list[Planned] = []
    needs: list[Need] = []  # of the last part, if others may join it
    for need, own in known:
        if needs and bytes_of([*needs, need], n_workers) <= free:
            parts[-1].planned.append(own)
            needs.append(need)
            continue
        free -= sum(joined.result for joined in needs)
        needs = []
        workers = n_workers
        while workers and bytes_of([need], workers) > free:
            workers //= 2
        if workers == n_workers:
            needs = [need]
        elif workers:
            free -= need.result
        if workers:
            parts.append(Part([own], workers))
        else:
            others.append(own)
    stacks = [own for own in others if len(own.group.members) > 1]
    if stacks:
        members = [one for stack in stacks for one in members_of(stack, candidates)]
        more, hopeless = parts_that_fit(members, candidates, need_of, n_workers, free)
        parts += more
        others = [own for own in others if own not in stacks] + hopeless
    return parts, others


def smaller_parts(part: Part, candidates: Sequence[Candidate]) -> list[Part]:
    """Return what to try if a part does not fit after all; nothing if it cannot be divided.

    Parameters
    ----------
    part : Part
        The part.
    candidates : sequence of Candidate
        Those whose indices the members of groups are.
    """
    planned, n_workers = part
    if len(planned) > 1:
        middle = len(planned) // 2
        return [Part(planned[:middle], n_workers), Part(planned[middle:], n_workers)]
    if n_workers > 1:
        return [Part(planned, 1)]
    [own] = planned
    if len(own.group.members) > 1:
        return [Part([single], 1) for single in members_of(own, candidates)]
    return []


def members_of(planned: Planned, candidates: Sequence[Candidate]) -> list[Planned]:
    """Return the members of a group as groups of their own."""
    return [
        Planned(planned.way, Group(candidates[i].topology, (i,))) for i in planned.group.members
    ]

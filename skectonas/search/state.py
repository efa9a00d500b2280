"""The state of a search, and its outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from skectonas.candidate import Ancestor, Candidate
from skectonas.search.ledger import Ledger

Step: TypeAlias = Literal[
    "warm-up", "mutation", "recovery", "phase 1", "phase 2", "control", "final", "done"
]
"""What a search does next; those that train are the phases of the ledger."""


@dataclass(frozen=True, eq=False)
class SearchState:
    """All that a search knows between two steps.

    A state is plain data: it can be pickled, and a search with the same settings, seed and
    data continues from it with the same bits.

    Parameters
    ----------
    ledger : Ledger
        The budget and what it was spent on.
    best : Candidate
        The best of all finished generations. Before the warm-up, the candidate that the start
        has to beat, or the start.
    reference : Ancestor
        What the final selection compares with. Unless another was given, it is the first start.
    start : Candidate or None, default=None
        The best start after the warm-up.
    untrained : tuple of Candidate, default=()
        What the warm-up or the recovery trains next: the starts, or the children of a
        generation.
    survivors : tuple of Candidate, default=()
        The candidates still in competition, as they were last trained. Between generations
        they are the parents of the next one. Before the warm-up there are none.
    front : tuple of Candidate, default=()
        Of the candidates that are trained no further, those that no other beats. `best` is
        not among them.
    known : mapping of int to Candidate, default={}
        Each candidate that was trained, by its id. They have their weights if the settings ask
        to keep all.
    generation : int, default=0
        The current generation; 0 is the warm-up.
    step : str, default="warm-up"
        What the search does next.
    round : int, default=0
        The next round of the phase.
    next_id : int, default=1
        The id of the next child.
    finished : bool, default=False
        Whether no further round can be played.
    n_unimproved : int, default=0
        Number of generations since the best candidate last changed.
    cut_short : bool, default=False
        Whether a limit of time has made a training shorter, or ended the search. From such a
        state the search would not continue as without the limit.
    finalist : Candidate or None, default=None
        The best candidate after the final training, if that did not make it worse.
    incumbent : Candidate or None, default=None
        A candidate that competes only with the finalist, because it was trained on all rows.
    """

    ledger: Ledger
    best: Candidate
    reference: Ancestor
    start: Candidate | None = None
    untrained: tuple[Candidate, ...] = ()
    survivors: tuple[Candidate, ...] = ()
    front: tuple[Candidate, ...] = ()
    known: Mapping[int, Candidate] = field(default_factory=dict)
    generation: int = 0
    step: Step = "warm-up"
    round: int = 0
    next_id: int = 1
    finished: bool = False
    n_unimproved: int = 0
    cut_short: bool = False
    finalist: Candidate | None = None
    incumbent: Candidate | None = None

    def lineage_of(self, candidate: Candidate) -> tuple[Candidate, ...]:
        """Return the ancestors of a candidate, the start first, and the candidate itself."""
        line = [candidate]
        while (parent := line[-1].parent) is not None and parent.id in self.known:
            line.append(self.known[parent.id])
        return tuple(reversed(line))


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a search has found.

    Parameters
    ----------
    state : SearchState
        The state in which the search ended.
    winner : Candidate
        The best candidate, trained.
    lineage : tuple of Candidate
        From the start to the winner. Each ancestor is as it was when it had its last child,
        and only the winner still has its weights.
    front : tuple of tuple of Candidate
        The lineage of each candidate that no other beats, the smallest candidate first. The
        candidates have their weights if the settings ask for it.
    kept : tuple of tuple of Candidate
        The lineage of each candidate that the settings ask to keep, with its weights. The last
        one of a candidate counts.
    interrupted : bool, default=False
        Whether the search was stopped by Ctrl-C.
    error : Exception or None, default=None
        The error that ended the search.
    """

    state: SearchState
    winner: Candidate
    lineage: tuple[Candidate, ...]
    front: tuple[tuple[Candidate, ...], ...]
    kept: tuple[tuple[Candidate, ...], ...]
    interrupted: bool = False
    error: Exception | None = None

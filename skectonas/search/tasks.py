"""The tasks of a search, and the objects that are told of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from skectonas.callers import level_of_user
from skectonas.search.clock import Clock
from skectonas.search.state import Outcome, SearchState


class ObservedSearch(Protocol):
    """A search as its observers see it."""

    @property
    def clock(self) -> Clock:
        """The time of the fit."""
        ...

    def outcome(self, state: SearchState) -> Outcome:
        """Return what was found up to a state."""
        ...


class Observer(Protocol):
    """An object that is told of the tasks of a search while it runs.

    The tasks of a search are "warm-up", "generation" after "generation", "control" and "final",
    as far as the budget goes and there is need for them. Those of a generation are "recovery",
    "phase 1" and "phase 2", each at most once. Those of a phase are named "round". Tasks follow
    each other and do not overlap.
    """

    def begin(
        self, search: ObservedSearch, state: SearchState, task: str, n_subtasks: int
    ) -> None:
        """Handle the beginning of a task, which has at most `n_subtasks` subtasks."""

    def end(self, search: ObservedSearch, state: SearchState, task: str) -> bool | None:
        """Handle the end of the innermost open task, also if it is cut short by a stop.

        Returns
        -------
        bool or None
            True stops the search, with the outcome of this state.
        """


class Task(NamedTuple):
    """A task of a search; tasks with the same name have different numbers."""

    name: str
    n_subtasks: int = 0
    number: int = 0


class OpenTasks:
    """The tasks that have begun and not ended; observers are told of every change.

    An observer that raises does not end a search that has something to lose.
    """

    def __init__(self, search: ObservedSearch, observers: Sequence[Observer]) -> None:
        self.search = search
        self.observers = observers
        self._open: tuple[Task, ...] = ()

    def switch(self, state: SearchState, tasks: tuple[Task, ...]) -> bool:
        """End the open tasks that are not among the given ones, and begin the others.

        Returns
        -------
        bool
            False if an observer stops the search. Then all tasks have ended.
        """
        stopped = False
        while self._open != tasks[: len(self._open)]:
            *outer, task = self._open
            self._open = tuple(outer)
            stops = [self._tell(observer.end, state, task.name) for observer in self.observers]
            if any(stops):
                stopped, tasks = True, ()
        for task in tasks[len(self._open) :]:
            for observer in self.observers:
                self._tell(observer.begin, state, task.name, task.n_subtasks)
        self._open = tasks
        return not stopped

    def _tell(
        self, method: Callable[..., bool | None], state: SearchState, *what: object
    ) -> bool:
        try:
            return bool(method(self.search, state, *what))
        except Exception as error:
            if not state.survivors:
                raise
            warn_of_callback(error)
            return False


def warn_of_callback(error: Exception) -> None:
    """Warn of an error of a callback that does not end the search."""
    warnings.warn(
        f"A callback raised {type(error).__name__}: {error}. The search is not affected.",
        stacklevel=level_of_user(),
    )

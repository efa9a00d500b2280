"""Observers of a search: scikit-learn's callbacks, and the lines that `verbose` prints."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sklearn.base import BaseEstimator

from skectonas.search.clock import SHORTEST, Clock
from skectonas.search.ledger import Ledger
from skectonas.search.state import Outcome, SearchState
from skectonas.search.tasks import ObservedSearch, warn_of_callback

if TYPE_CHECKING:
    from sklearn.callback import CallbackContext


class CallbackTasks:
    """Tells scikit-learn's callbacks of the tasks of a fit.

    The root of the tree is the fit. Its subtasks are the warm-up, the generations, the final
    training and the control. The subtasks of a generation are its phases, and theirs are their
    rounds.

    Parameters
    ----------
    estimator : estimator
        The estimator that has the callbacks, or inherits them from a meta-estimator.
    X, y, sample_weight : object
        The arguments of `fit`.
    fitted : callable
        Returns the fitted attributes for an outcome.
    """

    def __init__(
        self,
        estimator: BaseEstimator,
        X: Any,
        y: Any,
        sample_weight: Any,
        fitted: Callable[[Outcome], dict[str, Any]],
    ) -> None:
        self.estimator, self.fitted = estimator, fitted
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._data = {"X": X, "y": y, "metadata": metadata}
        root = estimator._init_callback_context(max_subtasks=None)
        self._open: list[CallbackContext] = [root]
        root.call_on_fit_task_begin(estimator=estimator, **self._data)

    def begin(
        self, search: ObservedSearch, state: SearchState, task: str, n_subtasks: int
    ) -> None:
        """See `skectonas.search.Observer`."""
        context = self._open[-1].subcontext(task_name=task, max_subtasks=n_subtasks)
        self._open.append(context)
        context.call_on_fit_task_begin(estimator=self.estimator, **self._data)

    def end(self, search: ObservedSearch, state: SearchState, task: str) -> bool:
        """See `skectonas.search.Observer`."""
        # The fitted attributes take time, so that only the subtasks of the fit have them.
        with_model = len(self._open) == 2
        return self._end((lambda: self.fitted(search.outcome(state))) if with_model else None)

    def finish(self) -> None:
        """Tell the callbacks that the fit has ended; all fitted attributes are set."""
        try:
            while len(self._open) > 1:  # an interruption leaves tasks open
                self._end(None)
            self._end({})
        except Exception as error:
            warn_of_callback(error)

    def _end(self, attributes: Callable[[], dict[str, Any]] | dict[str, Any] | None) -> bool:
        stop: bool = self._open.pop().call_on_fit_task_end(
            estimator=self.estimator, reconstruction_attributes=attributes, **self._data
        )
        return stop


class Printer:
    """Prints a line for the warm-up, each generation, the control and the final training.

    Parameters
    ----------
    name : str
        Of the estimator.
    with_rounds : bool, default=False
        Whether there is a line for the recovery and for each round, too.
    """

    def __init__(self, name: str, with_rounds: bool = False) -> None:
        self.name = name
        self._tasks = ["warm-up", "generation", "control", "final"]
        if with_rounds:
            self._tasks += ["recovery", "round"]

    def begin(
        self, search: ObservedSearch, state: SearchState, task: str, n_subtasks: int
    ) -> None:
        """See `skectonas.search.Observer`."""

    def end(self, search: ObservedSearch, state: SearchState, task: str) -> None:
        """See `skectonas.search.Observer`."""
        # If the warm-up is cut off, there is no best candidate.
        if task not in self._tasks or not state.survivors:
            return
        best, ledger = search.outcome(state).winner, state.ledger
        last = ledger.entries[-1]
        numbers = {
            "generation": f" {state.generation}",
            "round": f" {last.round + 1} of {last.phase}",
        }
        self._print(
            f"{task}{numbers.get(task, '')}: {_spent(ledger)}, best "
            f"{best.score:.4f}, {best.n_parameters} parameters, {best.topology}; "
            f"{_speed(ledger, search.clock)}"
        )

    def print_trial(self, n_epochs: int | None, findings: str, clock: Clock) -> None:
        """Print the line for the trial that comes before a search.

        Parameters
        ----------
        n_epochs : int or None
            Epochs of its trainings; None if there was not enough time for them.
        findings : str
            What it has found.
        clock : Clock
            The time for all of it.
        """
        trial = "cut off" if n_epochs is None else f"{n_epochs} epochs"
        self._print(f"trial: {trial}, {findings}; {_seconds(clock.elapsed)}")

    def _print(self, line: str) -> None:
        print(f"[{self.name}] {line}", flush=True)  # noqa: T201 (asked for by `verbose`)


def _spent(ledger: Ledger) -> str:
    spent = f"{ledger.spent / ledger.steps_per_epoch:.1f}"
    if math.isinf(ledger.budget):
        return f"{spent} epochs"
    return f"{spent} of {round(ledger.total / ledger.steps_per_epoch, 1):g} epochs"


def _speed(ledger: Ledger, clock: Clock) -> str:
    """Return the time so far, that to come, and how many candidates are trained in a second."""
    elapsed = clock.elapsed
    # Not what came before it, but that of earlier fits which a checkpoint continues.
    training = max(sum(entry.seconds for entry in ledger.entries), SHORTEST)
    left = min(training * ledger.left / ledger.spent, max(clock.limit - elapsed, 0))
    n_candidates = len({entry.candidate for entry in ledger.entries})
    return (
        f"{_seconds(elapsed)}, about {_seconds(left)} left, "
        f"{n_candidates / training:.3g} candidates a second"
    )


def _seconds(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d} min"

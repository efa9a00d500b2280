"""Who watches a search: scikit-learn's callbacks, and the lines that `verbose` asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sklearn.base import BaseEstimator

from skectonas.search.algorithm import Search
from skectonas.search.state import Outcome, SearchState

if TYPE_CHECKING:
    from sklearn.callback import CallbackContext


class CallbackTasks:
    """Tells scikit-learn's callbacks of the tasks of a fit.

    The tree has the fit itself, then warm-up, generations and the final training, then the
    phases of a generation, then their rounds.

    Parameters
    ----------
    estimator : estimator
        It has been given the callbacks, or inherits them from a meta-estimator.
    X, y, sample_weight : object
        What `fit` was given.
    fitted : callable
        Returns the fitted attributes that go with an outcome.
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

    def begin(self, search: Search, state: SearchState, task: str, n_subtasks: int) -> None:
        """See `skectonas.search.Observer`."""
        context = self._open[-1].subcontext(task_name=task, max_subtasks=n_subtasks)
        self._open.append(context)
        context.call_on_fit_task_begin(estimator=self.estimator, **self._data)

    def end(self, search: Search, state: SearchState, task: str) -> bool:
        """See `skectonas.search.Observer`."""
        # Only a generation, or what comes in its place, is worth a look at all the data.
        worth = len(self._open) == 2
        return self._end((lambda: self.fitted(search.outcome(state))) if worth else None)

    def finish(self) -> None:
        """Tell of the end of the fit: all fitted attributes are set."""
        while len(self._open) > 1:  # what an interruption has left
            self._end(None)
        self._end({})

    def _end(self, attributes: Callable[[], dict[str, Any]] | dict[str, Any] | None) -> bool:
        stop: bool = self._open.pop().call_on_fit_task_end(
            estimator=self.estimator, reconstruction_attributes=attributes, **self._data
        )
        return stop


class Printer:
    """Prints a line for the warm-up, each generation and the final training."""

    def __init__(self, name: str) -> None:
        self.name = name

    def begin(self, search: Search, state: SearchState, task: str, n_subtasks: int) -> None:
        """See `skectonas.search.Observer`."""

    def end(self, search: Search, state: SearchState, task: str) -> None:
        """See `skectonas.search.Observer`."""
        if task not in ("warm-up", "generation", "final"):
            return
        best, ledger = search.outcome(state).winner, state.ledger
        spent, budget = (n / ledger.steps_per_epoch for n in (ledger.spent, ledger.total))
        number = f" {state.generation}" if task == "generation" else ""
        print(  # noqa: T201 (asked for by `verbose`)
            f"[{self.name}] {task}{number}: {spent:.1f} of {round(budget, 1):g} epochs, best "
            f"{best.score:.4f}, {best.n_parameters} parameters, {best.topology}",
            flush=True,
        )

"""Observers of a search: scikit-learn's callbacks, and the lines that `verbose` prints."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sklearn.base import BaseEstimator

from skectonas.search.state import Outcome, SearchState
from skectonas.search.tasks import ObservedSearch

if TYPE_CHECKING:
    from sklearn.callback import CallbackContext


class CallbackTasks:
    """Tells scikit-learn's callbacks of the tasks of a fit.

    The root of the tree is the fit. Its subtasks are the warm-up, the generations and the final
    training. The subtasks of a generation are its phases, and theirs are their rounds.

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
        while len(self._open) > 1:  # an interruption leaves tasks open
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

    def begin(
        self, search: ObservedSearch, state: SearchState, task: str, n_subtasks: int
    ) -> None:
        """See `skectonas.search.Observer`."""

    def end(self, search: ObservedSearch, state: SearchState, task: str) -> None:
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

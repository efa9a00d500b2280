"""What an estimator needs for scikit-learn's callbacks, where scikit-learn has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sklearn.base import BaseEstimator

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # before scikit-learn 1.9
    # The checker sees both branches; only one of them runs.
    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands in where there are no callbacks."""

    def with_callbacks(method: Any) -> Any:
        """Return the method as it is."""
        return method


__all__ = ["CallbackSupportMixin", "one_task", "tearing_down"]

Fit = TypeVar("Fit", bound=Callable[..., Any])


def tearing_down(fit: Fit) -> Fit:
    """Let `fit` tear callbacks down at its end, however it ends, and keep its type."""
    managed: Fit = with_callbacks(fit)
    return managed


@contextmanager
def one_task(estimator: BaseEstimator, X: Any, y: Any) -> Iterator[None]:
    """Tell callbacks that a fit without parts begins, and that it has ended."""
    if not hasattr(estimator, "_init_callback_context"):
        yield
        return
    context = estimator._init_callback_context()
    context.call_on_fit_task_begin(estimator=estimator, X=X, y=y)
    yield
    context.call_on_fit_task_end(estimator=estimator, X=X, y=y, reconstruction_attributes={})

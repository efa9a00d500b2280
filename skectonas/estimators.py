"""What scikit-learn asks of an estimator besides its algorithm.

Parameters are checked, callbacks are called, a fit that fails leaves the estimator as it was,
and a pickle names the version that wrote it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
import torch
from sklearn.base import BaseEstimator, _fit_context
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.utils import check_random_state

from skectonas.callers import level_of_user
from skectonas.threads import uninterrupted

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # before scikit-learn 1.9
    # The type checker sees both branches; only one of them runs.
    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Replacement for releases without callbacks."""

    def with_callbacks(method: Any) -> Any:
        """Return the method unchanged."""
        return method


__all__ = [
    "CallbackSupportMixin",
    "FittedDespiteError",
    "VersionedStateMixin",
    "all_or_nothing",
    "check_device",
    "check_parameters",
    "draw_seed",
    "one_task",
    "tearing_down",
    "with_plain_numbers",
]

Fit = TypeVar("Fit", bound=Callable[..., Any])
Estimator = TypeVar("Estimator", bound=BaseEstimator)

__version__ = "0.1.0"

VERSION_KEY = "_skectonas_version"

LARGEST = 1e100
"""Products of larger numbers would overflow, and no parameter needs them."""


def tearing_down(fit: Fit) -> Fit:
    """Let `fit` tear down callbacks however it ends, and keep its type."""
    managed: Fit = with_callbacks(fit)
    return managed


@contextmanager
def one_task(estimator: BaseEstimator, X: Any, y: Any) -> Iterator[None]:
    """Tell callbacks when a fit without subtasks begins and ends."""
    if not hasattr(estimator, "_init_callback_context"):
        yield
        return
    context = estimator._init_callback_context()
    context.call_on_fit_task_begin(estimator=estimator, X=X, y=y)
    yield
    context.call_on_fit_task_end(estimator=estimator, X=X, y=y, reconstruction_attributes={})


def check_parameters(fit: Fit) -> Fit:
    """Let `fit` check the parameters first, as scikit-learn does, and keep its type.

    With scikit-learn 1.9, this also ends the callbacks of the estimator after the fit.
    """
    checking: Fit = _fit_context(prefer_skip_nested_validation=True)(fit)
    return checking


class FittedDespiteError(Exception):
    """Carries the error of a `fit` that has fitted the estimator all the same."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


def all_or_nothing(fit: Fit) -> Fit:
    """Let a `fit` that fails leave the estimator as it was, and keep its type.

    The error of a `FittedDespiteError` is raised, and the estimator stays as it is then.
    """

    @wraps(fit)
    def restoring(estimator: BaseEstimator, *args: Any, **kwargs: Any) -> Any:
        before = vars(estimator).copy()
        try:
            try:
                return fit(estimator, *args, **kwargs)
            except FittedDespiteError:
                raise
            except BaseException:
                _restore(estimator, before)
                raise
        except FittedDespiteError as fitted:
            error = fitted.error
        except BaseException:
            # Again, as Ctrl-C may have come before the first could make it wait.
            _restore(estimator, before)
            raise
        raise error

    return cast(Fit, restoring)


def _restore(estimator: BaseEstimator, before: dict[str, Any]) -> None:
    """Give an estimator the attributes that it had before."""
    with uninterrupted():
        state = vars(estimator)
        state.update(before)
        for name in state.keys() - before.keys():
            state.pop(name)


def with_plain_numbers(estimator: Estimator) -> Estimator:
    """Return the estimator with numpy numbers among its parameters replaced by Python's.

    Unlike numpy's, they do not overflow. Numbers in tuples, lists and the values of dicts, such
    as ``optimizer_params``, are replaced as well. All else is shared.

    Raises
    ------
    ValueError
        If a number is NaN, or is larger than any that makes sense.
    """
    twin: Estimator = object.__new__(type(estimator))
    vars(twin).update(vars(estimator))
    for name, value in estimator.get_params(deep=False).items():
        setattr(twin, name, _plain_numbers(value, name))
    return twin


def _plain_numbers(value: Any, name: str) -> Any:
    if type(value) is dict:
        return {key: _plain_numbers(part, f"{name}[{key!r}]") for key, part in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_plain_numbers(part, name) for part in value)
    if isinstance(value, np.generic):
        value = float(value) if isinstance(value, np.longdouble) else value.item()
    if isinstance(value, int | float) and (value != value or LARGEST < abs(value) < math.inf):
        shown = value if isinstance(value, float) else "a larger integer"
        raise ValueError(f"{name} must be a number of up to {LARGEST:g}, got {shown}.")
    return value


class VersionedStateMixin:
    """Writes the version into the pickled state, and warns if another version reads it."""

    def __getstate__(self) -> dict[str, Any]:
        state: Any = super().__getstate__()
        return {**state, VERSION_KEY: __version__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        written_by = state.pop(VERSION_KEY, "before 0.1")
        if written_by != __version__:
            warnings.warn(
                InconsistentVersionWarning(
                    estimator_name=type(self).__name__,
                    current_sklearn_version=f"{__version__} of skectonas",
                    original_sklearn_version=f"{written_by} of skectonas",
                ),
                stacklevel=level_of_user(),
            )
        parent: Any = super()
        parent.__setstate__(state)


def check_device(device: Any) -> torch.device:
    """Return the device; "auto" is the first CUDA device, or else the CPU.

    Raises
    ------
    ValueError
        If torch knows no such device, or cannot use it.
    """
    if isinstance(device, str) and device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.zeros(1, device=found).cpu()  # the meta device has nothing to give back
    # A build of torch without support for the device raises an AssertionError.
    except (RuntimeError, AssertionError, ImportError, TypeError, NotImplementedError) as error:
        [reason] = str(error).splitlines()[:1] or [type(error).__name__]
        raise ValueError(
            f'device must be "auto" or a device that torch can use, got {device!r}: '
            f"{reason.partition('. ')[0]}"
        ) from error
    return found


def draw_seed(random_state: Any) -> int:
    """Return the number that every random draw of a fit depends on.

    None gives fresh entropy: numpy's global generator is neither read nor changed.

    Raises
    ------
    ValueError
        If `random_state` is of an unknown type.
    """
    if random_state is None:
        return int(np.random.default_rng().integers(2**31))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31))
    return int(check_random_state(random_state).randint(2**31 - 1))

"""Optional packages, imported when they are used."""

from __future__ import annotations

import importlib
from types import ModuleType


def import_extra(module: str, extra: str) -> ModuleType:
    """Import a module that an optional extra of this package installs.

    Parameters
    ----------
    module : str
        Full name of the module.
    extra : str
        The extra that installs it.

    Raises
    ------
    ImportError
        If it cannot be imported; the message names the extra.

    Examples
    --------
    >>> from skectonas.extras import import_extra
    >>> import_extra("not_installed", "save")
    Traceback (most recent call last):
    ...
    ImportError: not_installed cannot be imported; pip install "skectonas[save]" installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f'{module} cannot be imported; pip install "skectonas[{extra}]" installs it.'
        ) from error

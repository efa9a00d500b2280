"""How files are written."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file as a whole or not at all: a crash leaves what was there before.

    A file that is replaced keeps its permissions. Pipes and devices are written to.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    # A link is followed, so that the file that it leads to is replaced.
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        target.write_bytes(data)
        return
    draft = target.with_name(f".{target.name[:64]}.{secrets.token_hex(8)}")
    try:
        with draft.open("xb") as file:
            if target.exists():
                draft.chmod(target.stat().st_mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)

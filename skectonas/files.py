"""How files are written."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def target_of(path: str | os.PathLike[str]) -> Path:
    """Return the path to write to, with links resolved.

    Raises
    ------
    FileNotFoundError
        If its folder does not exist.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"the folder {str(target.parent)!r} does not exist")
    return target


def write_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file as a whole or not at all: a crash leaves what was there before.

    A file that is replaced keeps its permissions. Pipes and devices are written to.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    target = target_of(path)
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

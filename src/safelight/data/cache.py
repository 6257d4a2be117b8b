"""The cache directory, and the two file operations that keep what is in it whole."""

from __future__ import annotations

import os
from pathlib import Path

from safelight.config import UserError


def cache_dir(*below: str) -> Path:
    """A directory in the cache, made if need be: $SAFELIGHT_CACHE, or the user's cache directory.

    Raises UserError where it cannot be written.
    """
    import platformdirs

    root = os.environ.get("SAFELIGHT_CACHE") or platformdirs.user_cache_dir("safelight")
    folder = Path(root).expanduser().joinpath(*below)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be made ({error.strerror}); set SAFELIGHT_CACHE to a writable folder"
        ) from error
    return folder


def move_into_place(written: Path, final: Path) -> None:
    """Rename a finished file or directory: `final` is there whole or not at all, even after a crash."""
    os.replace(written, final)
    if os.name == "posix":  # elsewhere a directory cannot be opened
        directory = os.open(final.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

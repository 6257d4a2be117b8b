"""The cache directory, and the two file operations that keep what is in it whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from filelock import FileLock

from safelight.config import UserError
from safelight.data.source import Progress


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


# --- Public files, downloaded once, checked against their published sums ---

CHUNK = 1 << 18  # bytes
PATIENCE = 30  # seconds without a byte before a mirror is given up


class _Refused(Exception):
    """Why one mirror did not give the file."""


def download(name: str, md5: str, mirrors: Sequence[str], folder: Path, progress: Progress | None) -> Path:
    """The file `folder/name`, from the first mirror (an address ending in /) that has it whole.

    A file whose sum is wrong is never left under its name. Raises UserError naming what each mirror did.
    """
    final = folder / name
    with FileLock(f"{final}.lock"):
        if final.exists():
            return final
        failures = []
        for mirror in mirrors:
            partial = final.with_name(f"{name}.partial")
            try:
                _fetch(mirror + name, md5, partial, progress)
            except _Refused as reason:
                failures.append(f"{mirror}: {reason}")
                partial.unlink(missing_ok=True)
            else:
                move_into_place(partial, final)
                return final
    raise UserError(
        f"{name}: could not be downloaded ({'; '.join(failures)}); "
        "fetch it some other way and point data.path at the folder that holds it"
    )


def _fetch(url: str, md5: str, path: Path, progress: Progress | None) -> None:
    digest, done = hashlib.md5(usedforsecurity=False), 0
    try:
        with urlopen(url, timeout=PATIENCE) as answer, path.open("wb") as file:
            total = int(answer.headers.get("Content-Length") or 0)
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                if progress:
                    progress(f"downloading {path.name.removesuffix('.partial')}", done, total)
    except HTTPError as error:
        error.close()
        raise _Refused(f"answered {error.code}") from error
    except URLError as error:
        raise _Refused(f"{error.reason}") from error
    except (OSError, HTTPException) as error:
        raise _Refused(f"broke off after {done} bytes ({error})") from error
    if done < total:
        raise _Refused(f"broke off after {done} of {total} bytes")
    if digest.hexdigest() != md5:
        raise _Refused(f"sent a different file (md5 {digest.hexdigest()}, not {md5})")

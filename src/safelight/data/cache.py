"""The cache directory, and public files downloaded into it once, checked against their published sums."""

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
from safelight.store.durable import publish

CHUNK = 1 << 18  # bytes
PATIENCE = 30  # seconds without a byte before a mirror is given up


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


class _Refused(Exception):
    """Why one mirror did not give the file."""


def download(name: str, md5: str, mirrors: Sequence[str], folder: Path, progress: Progress | None) -> Path:
    """The file `folder/name`, from the first mirror (an address ending in /) that has it whole.

    A file with a wrong sum is never left under its name. Raises UserError with the failure of each mirror.
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
                publish(partial, final)
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

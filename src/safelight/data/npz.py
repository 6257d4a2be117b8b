"""NumPy's files as arrays that stay on disk: nothing is unpickled, nothing large is loaded whole."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from safelight import files
from safelight.config import UserError
from safelight.data.cache import cache_dir
from safelight.terminal import plain

Array = NDArray[Any]

LOCAL_HEADER = 30  # bytes of a zip member's own header, before its name and extra field


def open_arrays(path: str) -> Mapping[str, Array]:
    """The arrays of a .npz by name, or the one of a .npy by the name "": read-only memory maps.

    A compressed .npz is unpacked into a file of the cache that goes when the arrays go.
    Raises UserError where the file is damaged or holds Python objects.
    """
    try:
        files.opened(path).close()  # before anything looks for the end of a device
        if not zipfile.is_zipfile(path):
            with files.opened(path) as file:
                return {"": _map(file)}
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            return {info.filename.removesuffix(".npy"): _member(path, archive, info) for info in members}
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or plain(str(error))})") from error
    except Exception as error:  # damage makes zip, zlib, NumPy's headers and the memory map raise all sorts
        reason = plain(str(error)) or type(error).__name__
        raise UserError(f"{path}: is not a whole .npz or .npy of plain arrays ({reason[:200]})") from error


def described(arrays: Mapping[str, Array]) -> str:
    """Names, types and shapes, for messages."""
    return ", ".join(f"{name or 'one array'} {array.dtype} {array.shape}" for name, array in arrays.items())


def _member(path: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    if info.compress_type == zipfile.ZIP_STORED:
        with Path(path).open("rb") as file:
            file.seek(info.header_offset)
            header = file.read(LOCAL_HEADER)
            names = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
            file.seek(info.header_offset + LOCAL_HEADER + names)
            return _map(file)
    free = shutil.disk_usage(cache_dir()).free
    if info.file_size > free:
        raise UserError(
            f"{path}: unpacks to {info.file_size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free; "
            "save it with numpy.savez, uncompressed, or set SAFELIGHT_CACHE to a folder on another disk"
        )
    with TemporaryFile(dir=cache_dir()) as unpacked, archive.open(info) as member:
        shutil.copyfileobj(member, unpacked, 1 << 20)
        unpacked.seek(0)
        return _map(unpacked)


def _map(file: IO[bytes]) -> Array:
    """The array whose .npy content begins where the file stands."""
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"NumPy format {version}")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("holds Python objects, which are not loaded")
    if 0 in shape:
        return np.zeros(shape, dtype)
    return np.memmap(file, dtype, "r", file.tell(), shape, "F" if fortran else "C")

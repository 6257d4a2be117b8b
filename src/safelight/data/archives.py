"""Zip and tar archives as trees of files; read in place, nothing is extracted."""

from __future__ import annotations

import io
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, ClassVar

from safelight import files
from safelight.config import UserError
from safelight.data.cache import cache_dir
from safelight.data.listing import HIDDEN, RUN, Listing, is_hidden, is_sheet, without_suffix
from safelight.data.source import BadItem, key, stamp
from safelight.store.durable import publish

MAX_FILE = 1 << 30  # bytes a member of an archive may unpack to
CHUNK = 1 << 22  # bytes decompressed at once
COMPRESSED = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ": "xz"}


@dataclass(frozen=True)
class ZipTree:
    """A zip archive; one folder that holds everything in it is left out of the names."""

    kind: ClassVar = "zip"
    path: str

    def open(self, name: str) -> IO[bytes]:
        """The member. Raises BadItem, KeyError, or whatever a damaged archive leads to."""
        info = self._members[name]
        if info.file_size > MAX_FILE:
            raise BadItem(f"unpacks to {info.file_size / 1e9:.1f} GB")
        return io.BytesIO(self._archive.read(info))

    def scan(self) -> Listing:
        """Every member. Raises UserError where the archive is damaged."""
        lines = ((name, info.file_size, f"{name}\0{info.file_size}\0{info.CRC}\n")
                 for name, info in self._members.items())  # fmt: skip
        return _listed(lines, [*self._members], self.path)

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.path)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read ({error.strerror or error})") from error
        except Exception as error:  # BadZipFile, and whatever a damaged directory leads to
            raise UserError(f"{self.path}: is not a whole zip archive ({error}); make it again") from error

    @cached_property
    def _members(self) -> dict[str, zipfile.ZipInfo]:
        infos = [info for info in self._archive.infolist() if not info.is_dir()]
        return dict(zip(_named([info.filename for info in infos]), infos, strict=True))


@dataclass(frozen=True)
class TarTree:
    """A tar archive, such as a shard of WebDataset; a compressed one is decompressed into the cache once."""

    kind: ClassVar = "tar"
    path: str

    def open(self, name: str) -> IO[bytes]:
        """The member. Raises BadItem, KeyError or OSError."""
        start, size = self._members[name]
        if size > MAX_FILE:
            raise BadItem(f"unpacks to {size / 1e9:.1f} GB")
        with files.opened(self._plain) as file:
            file.seek(start)
            return io.BytesIO(file.read(size))

    def scan(self) -> Listing:
        """Every member. Raises UserError where the archive is damaged."""
        state = stamp(Path(self.path))[1:]
        lines = ((name, size, f"{name}\0{size}\0{start}\0{state}\n")
                 for name, (start, size) in self._members.items())  # fmt: skip
        return _listed(lines, [*self._members], self.path)

    @cached_property
    def _members(self) -> dict[str, tuple[int, int]]:
        """Where each file's content begins, and how long it is."""
        try:
            with tarfile.open(self._plain, "r:") as archive:
                infos = [
                    info for info in archive if info.isreg() and not info.issparse()
                ]  # links lead anywhere
        except UserError:
            raise
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read ({error.strerror or error})") from error
        except Exception as error:  # TarError, and whatever a damaged header leads to
            raise UserError(f"{self.path}: is not a whole tar archive ({error}); make it again") from error
        places = [(info.offset_data, info.size) for info in infos]
        return dict(zip(_named([info.name for info in infos]), places, strict=True))

    @cached_property
    def _plain(self) -> str:
        """The archive without compression."""
        with files.opened(self.path) as file:
            head = file.read(6)
        kind = next((kind for magic, kind in COMPRESSED.items() if head.startswith(magic)), None)
        if kind is None:
            return self.path
        plain = cache_dir("tars") / f"{key(stamp(Path(self.path)))[:24]}.tar"
        if not plain.exists():
            partial = plain.with_name(f"{plain.name}.{os.getpid()}.partial")
            try:
                with _decompressed(kind, self.path) as packed, partial.open("wb") as file:
                    while content := packed.read(CHUNK):
                        file.write(content)
            except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
                partial.unlink(missing_ok=True)
                raise UserError(f"{self.path}: cannot be decompressed ({error}); make it again") from error
            publish(partial, plain)
        return str(plain)


Archive = ZipTree | TarTree


def open_archive(path: str) -> Archive | None:
    """The archive in a file by its content or ending; None where it is none."""
    lower = path.lower()
    if lower.endswith((".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")):
        return TarTree(path)
    if lower.endswith(".zip") or zipfile.is_zipfile(path):
        return ZipTree(path)
    return None


def _decompressed(kind: str, path: str) -> IO[bytes]:
    import bz2
    import gzip

    opener = {"gz": gzip.open, "bz2": bz2.open, "xz": lzma.open}[kind]
    opened: IO[bytes] = opener(path, "rb")  # type: ignore[operator]
    return opened


def _named(names: Sequence[str]) -> list[str]:
    """Names of members, "/" between folders though Windows writes "\\", without one top folder of all."""
    if not any("/" in name for name in names):
        names = [name.replace("\\", "/") for name in names]
    names = ["/".join(part for part in name.split("/") if part not in ("", ".")) for name in names]
    tops = {top for name in names if not is_hidden(top := name.partition("/")[0])}
    only = f"{tops.pop()}/" if len(tops) == 1 else ""
    return [name.removeprefix(only) for name in names]


def _listed(members: Iterator[tuple[str, int, str]], names: Sequence[str], path: str) -> Listing:
    """The listing of members of an archive at a path: name, bytes, stamp."""
    listing = Listing()
    known = frozenset(names)
    folders = {name.rpartition("/")[0] for name in names} - {""}
    runs = tuple(f"{folder}/" for folder in folders if {f"{folder}/{file}" for file in RUN} <= known)
    titles = {without_suffix(os.path.basename(path))} | {
        part for folder in folders for part in folder.split("/")
    }
    for name, size, line in members:
        parts = name.split("/")
        if any(is_hidden(part) and part != ".." for part in parts):
            listing.notes.add(HIDDEN, name)
        elif ".." in parts:
            listing.bad.append(f"{name} (lies outside the archive)")
        elif runs and name.startswith(runs):
            listing.notes.add("file of a run of safelight", name)
        elif is_sheet(parts[-1], titles):
            listing.notes.add("sheet of safelight", name)
        else:
            listing.take(name, size, line)
    return listing.settled()

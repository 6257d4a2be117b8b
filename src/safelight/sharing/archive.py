"""run.slr: a zip with folders of runs in it and a manifest of its members, read as what a stranger made.

manifest.json comes first: name, bytes and SHA-256 of every other member; manifest.json.sig signs it. Every
name is one that a file of a run has, or is below data/, so that nothing in it is unpickled or run.
"""

from __future__ import annotations

import hashlib
import io
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Annotated

from pydantic import Field

from safelight import files
from safelight.config import UserError
from safelight.store import sealed
from safelight.store.durable import mendable, publish, temporary_beside
from safelight.store.info import Count

MANIFEST, SIGNATURE = "manifest.json", "manifest.json.sig"
FORMAT = "1.0"
LISTED, SIGNED = 16 << 20, 1 << 16  # bytes of a manifest and of a signature, at most
DIRECTORY = 32 << 20  # bytes of the zip's directory, which is read whole
SWELLS, ALWAYS = 100, 1 << 20  # times its size that it may unpack to, and bytes that it may in any case
CHUNK = 1 << 20
STORED = (".png", ".safetensors", ".jpg", ".jpeg", ".webp", ".zip")  # compressed already, or noise
PART = r"[^\x00-\x1f\x7f/\\:*?\"<>|.~ ](?:[^\x00-\x1f\x7f/\\:*?\"<>|]{0,199}[^\x00-\x1f\x7f/\\:*?\"<>|. ])?"
NAMES = re.compile(
    r"(?P<run>\w(?:[\w.+=-]{0,198}[\w+=-])?)/(?:"
    r"recipe\.toml|run\.json|journal\.jsonl|pins\.json|metrics-[0-9]{4,9}\.jsonl"
    r"|evaluations/[\w.+=-]{1,199}\.json|(?:sheets|panels)/[\w-]{1,99}\.(?:png|json)"
    r"|checkpoints/[0-9]{8,15}/(?:manifest\.json|[\w-]{1,99}\.safetensors)"
    r"|(?P<tape>tape/[\w-]{1,99}\.[\w-]{1,20})"
    rf"|(?P<data>data/{PART}(?:/{PART}){{0,11}}))"
)
BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    struct.error,
)


@dataclass(frozen=True)
class Member:
    """A file in the archive."""

    bytes: Count
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class Manifest:
    """What manifest.json says."""

    run: str  # name of the run, a folder of the archive; others are runs that it came from, or needs
    holds: list[str]  # of "weights", "tape", "data"
    every: Count  # so manieth row of metrics is in it; 1 for all
    safelight: str  # version that wrote it
    members: dict[str, Member]
    format: str = FORMAT


def write(
    out: Path,
    manifest: Callable[[dict[str, Member]], Manifest],
    members: Mapping[str, bytes | Path],
    sign: Callable[[bytes], bytes] | None = None,
) -> Manifest:
    """Write an archive, whole or not at all; the same members make the same bytes. Raises UserError.

    manifest: of what the members are. sign: the signature of the manifest's bytes.
    """
    temporary = temporary_beside(out)
    with mendable(out):
        made = manifest({name: _measured(content) for name, content in sorted(members.items())})
        text = sealed.pretty(asdict(made))
        head = {MANIFEST: text} | ({SIGNATURE: sign(text)} if sign else {})
        try:
            with zipfile.ZipFile(temporary, "x") as archive:
                for name, content in [*head.items(), *sorted(members.items())]:
                    info = zipfile.ZipInfo(name)  # of 1980, so that equal members make equal bytes
                    info.external_attr = (stat.S_IFREG | 0o644) << 16
                    info.compress_type = zipfile.ZIP_STORED if name.endswith(STORED) else zipfile.ZIP_DEFLATED
                    with _source(content) as source, archive.open(info, "w", force_zip64=True) as target:
                        while piece := source.read(CHUNK):
                            target.write(piece)
            with Archive.open(temporary) as archive_read:  # a run that trains may have changed meanwhile
                archive_read.unpack(None)
            publish(temporary, out)
        finally:
            temporary.unlink(missing_ok=True)
    return made


def _source(content: bytes | Path) -> IO[bytes]:
    return io.BytesIO(content) if isinstance(content, bytes) else files.opened(content)


def _measured(content: bytes | Path) -> Member:
    with _source(content) as source:
        digest = hashlib.sha256()
        count = 0
        while piece := source.read(CHUNK):
            digest.update(piece)
            count += len(piece)
    return Member(count, digest.hexdigest())


@dataclass(frozen=True)
class Archive:
    """An archive whose names, sizes and manifest are in order; its contents are checked as they are read."""

    path: Path
    manifest: Manifest
    text: bytes  # of the manifest
    signature: bytes | None
    _zip: zipfile.ZipFile

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Archive]:
        """The archive at a path. Raises UserError, also for whatever inside it is damaged or hostile."""
        with mendable(path), files.opened(path) as file:
            try:
                _require_small(path, file)
                with zipfile.ZipFile(file) as archive:
                    infos = archive.infolist()
                    for info in infos:
                        _require_file(path, info)
                    _require_distinct(path, [info.filename for info in infos])
                    sizes = {info.filename: info.file_size for info in infos}
                    size = file.seek(0, 2)
                    if (total := sum(sizes.values())) > SWELLS * size + ALWAYS:
                        raise refused(path, f"{size:,} bytes would unpack to {total:,}")
                    text = _small(path, archive, sizes, MANIFEST, LISTED)
                    signature = (
                        _small(path, archive, sizes, SIGNATURE, SIGNED) if SIGNATURE in sizes else None
                    )
                    manifest = _manifest(path, text, sizes)
                    yield cls(path, manifest, text, signature, archive)
            except BROKEN as error:
                raise refused(path, f"is not a whole zip archive ({error})") from error

    def unpack(self, folder: Path | None, taken: Callable[[re.Match[str]], bool] = bool) -> None:
        """Compare every member with the manifest, and write the taken ones into a folder. Raises UserError.

        taken: takes a match of `NAMES`. folder: new, or None to write nothing.
        """
        for name, member in self.manifest.members.items():
            target = folder / name if folder and taken(matched(name)) else None
            digest, count = hashlib.sha256(), 0
            if target:
                target.parent.mkdir(parents=True, exist_ok=True)
            with self._zip.open(name) as source, target.open("xb") if target else io.BytesIO() as file:
                while piece := source.read(CHUNK):
                    digest.update(piece)
                    count += len(piece)
                    if target:
                        file.write(piece)
            if (count, digest.hexdigest()) != (member.bytes, member.sha256):
                raise refused(self.path, f"{name} is not what its manifest says")

    @property
    def runs(self) -> list[str]:
        """Names of the runs in it, its own first."""
        names = {matched(name)["run"] for name in self.manifest.members}
        return sorted(names, key=lambda name: (name != self.manifest.run, name))


def matched(name: str) -> re.Match[str]:
    """The name of a member, which is one that a run can have."""
    match = NAMES.fullmatch(name)
    assert match
    return match


def refused(path: Path, why: str) -> UserError:
    """What to say of an archive that is not read."""
    return UserError(f"{path}: {why[:400]}; get it again from whoever made it")


def _require_small(path: Path, file: IO[bytes]) -> None:
    """Raises UserError where the zip's directory, which `zipfile` reads at once, is too large."""
    size = file.seek(0, 2)
    file.seek(max(0, size - (1 << 16) - 22))
    tail = file.read()
    end = tail.rfind(b"PK\5\6")
    if end < 0 or len(tail) < end + 22:
        raise refused(path, "is not a whole zip archive (it has no end)")
    directory = struct.unpack_from("<L", tail, end + 12)[0]
    if directory == 0xFFFFFFFF:
        place = struct.unpack_from("<Q", tail, tail.rindex(b"PK\6\7") + 8)[0]
        file.seek(min(place, size))
        directory = struct.unpack_from("<Q", file.read(56), 40)[0]
    if directory > DIRECTORY:
        raise refused(path, f"lists its members in {directory:,} bytes, more than {DIRECTORY:,}")
    file.seek(0)


def _require_file(path: Path, info: zipfile.ZipInfo) -> None:
    """Raises UserError for a member that is no plain file, or has a name that no member has."""
    name = info.orig_filename
    if name not in (MANIFEST, SIGNATURE) and not NAMES.fullmatch(name):
        raise refused(path, f"holds {name[:200]!r}, which no shared run has")
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG) or info.is_dir():
        raise refused(path, f"{name} is {files.kind(info.external_attr >> 16)}, not a file")
    if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise refused(path, f"{name} is encrypted, or packed in a way that is not read")


def _require_distinct(path: Path, names: list[str]) -> None:
    """Raises UserError for names that mean one file on some system, and for a file in place of a folder."""
    once: set[str] = set()
    for name in names:
        if (plain := unicodedata.normalize("NFC", name).casefold()) in once:
            raise refused(path, f"holds {name} twice")
        once.add(plain)
    for name in once:
        if inside := once & {str(parent) for parent in Path(name).parents}:
            raise refused(path, f"{inside.pop()} is a file and a folder")


def _small(path: Path, archive: zipfile.ZipFile, sizes: Mapping[str, int], name: str, most: int) -> bytes:
    if name not in sizes:
        raise refused(path, f"is no shared run: it has no {name}")
    if sizes[name] > most:
        raise refused(path, f"{name} is larger than {most:,} bytes")
    return archive.read(name)


def _manifest(path: Path, text: bytes, sizes: Mapping[str, int]) -> Manifest:
    """The manifest, which names every other member with its size. Raises UserError."""
    place = path / MANIFEST
    if (fields := sealed.unseal(text)) is None:
        raise refused(path, f"{MANIFEST} is damaged (its checksum does not fit)")
    sealed.require_known(place, fields)
    manifest = sealed.conform(place, Manifest, fields)
    stated = {name: member.bytes for name, member in manifest.members.items()}
    there = {name: size for name, size in sizes.items() if name not in (MANIFEST, SIGNATURE)}
    if stated != there:
        wrong = min(stated.items() ^ there.items())[0]
        raise refused(path, f"{wrong}: is not as {MANIFEST} lists it")
    for name in {matched(name)["run"] for name in there} | {manifest.run}:
        if (
            lacking := {f"{name}/{part}" for part in ("recipe.toml", "run.json", "journal.jsonl")}
            - there.keys()
        ):
            raise refused(path, f"lacks {min(lacking)}")
    return manifest

"""Writing packs: item by item, in constant memory, so that a pack is there whole or not at all."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from filelock import FileLock
from numpy.lib import format as npy

from safelight.config import UserError
from safelight.data.cache import cache_dir, move_into_place
from safelight.data.pack import FORMAT, HELD_OUT, TRAIN, UNDECIDED, Pack, digest, load
from safelight.data.source import BadItem, Items, Progress, Source, key

NAMED = 5  # bad items an error names; it counts the others
ROWS: dict[str, tuple[str, tuple[int, ...]]] = {"label": ("<i8", ())}  # type and shape by kind of condition


def open_pack(source: Source, held_out: float, skip_bad: bool, progress: Progress | None = None) -> Pack:
    """The source's pack: the one in the cache, or a new one. Safe with several processes at once.

    Raises UserError where items are bad and `skip_bad` is false, or the disk is too full.
    """
    slug = re.sub(r"[^A-Za-z0-9.-]+", "-", source.name)[:40]
    folder = cache_dir("packs") / f"{slug}-{key(FORMAT, source.key)[:16]}"
    pack = load(folder, held_out)
    if pack is None:
        with FileLock(f"{folder}.lock"):
            pack = load(folder, held_out) or _pack(source, folder, held_out, progress)
    if pack.bad and not skip_bad:
        raise UserError(
            f"{source.name}: {len(pack.bad)} of {len(pack) + len(pack.bad)} images cannot be decoded: "
            f"{_some(pack.bad)}; mend or remove them, or set data.skip_bad=true"
        )
    return pack


def _pack(source: Source, folder: Path, held_out: float, progress: Progress | None) -> Pack:
    """Write a pack beside its place, then move it there. The caller holds the lock."""
    partial = folder.with_name(f"{folder.name}.partial")
    for remains in (folder, partial):  # a pack that cannot be read; a packing that was killed
        shutil.rmtree(remains, ignore_errors=True)
    items = source.items()
    needed = len(items.names) * math.prod(items.shape)
    if needed > shutil.disk_usage(folder.parent).free:
        raise _too_full(folder, needed)
    try:
        partial.mkdir()
        _write(source.name, items, partial, progress)
        move_into_place(partial, folder)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise _too_full(folder, needed) from error
        raise
    pack = load(folder, held_out)
    if pack is None:
        raise RuntimeError(f"{folder}: was written, but cannot be read back")
    return pack


def _write(name: str, items: Items, folder: Path, progress: Progress | None) -> None:
    """Every file of a pack, each flushed to the disk, the manifest last."""
    columns = {condition: ROWS[it.kind] for condition, it in items.conditions.items()}
    sizes = sorted((condition, it.kind, it.size) for condition, it in items.conditions.items())
    fingerprint = blake2b(repr((items.shape, sizes)).encode(), digest_size=16, person=b"safelight data")
    names, bad = [], []
    with ExitStack() as files:

        def array(stem: str, dtype: str, row: tuple[int, ...]) -> _Rows:
            return files.enter_context(_Rows(folder / f"{stem}.npy", dtype, row))

        images, present = array("images", "|u1", items.shape), array("given", "|b1", ())
        digests, official = array("digests", "<u8", (2,)), array("official", "|i1", ())
        given = {condition: array(f"given-{condition}", *column) for condition, column in columns.items()}
        for index, item_name in enumerate(items.names):
            try:
                item = items.read(index)
            except BadItem as reason:
                bad.append(f"{item_name} ({reason})")
            else:
                names.append(item_name)
                pixels = digest(item.image)
                side = UNDECIDED if item.held_out is None else HELD_OUT if item.held_out else TRAIN
                fingerprint.update(pixels)
                digests.append(np.frombuffer(pixels, "<u8"))
                images.append(item.image)
                fingerprint.update(official.append(side))
                fingerprint.update(present.append(bool(columns) and columns.keys() <= item.given.keys()))
                for condition, (dtype, row) in sorted(columns.items()):
                    value = item.given.get(condition, np.zeros(row, dtype))
                    fingerprint.update(given[condition].append(value))
            if progress:
                progress(f"packing {name}", index + 1, len(items.names))
    if not names:
        raise UserError(f"{name}: none of its {len(bad)} images can be decoded: {_some(bad)}; mend them")
    _write_json(folder / "names.json", names)
    conditions = {condition: {"kind": it.kind, "size": it.size, "names": it.names}
                  for condition, it in items.conditions.items()}  # fmt: skip
    manifest = {"format": FORMAT, "name": name, "fingerprint": fingerprint.hexdigest(), "count": len(names)}
    _write_json(folder / "manifest.json", {**manifest, "conditions": conditions, "bad": bad})


class _Rows:
    """A .npy file that grows by rows of one shape; whole once it is closed."""

    def __init__(self, path: Path, dtype: str, row: tuple[int, ...]) -> None:
        self._file, self._dtype, self._row, self._count = path.open("wb"), dtype, row, 0
        self._header()

    def append(self, row: Any) -> bytes:
        """Write a row, and return its bytes."""
        content = np.asarray(row, self._dtype).reshape(self._row).tobytes()
        self._file.write(content)
        self._count += 1
        return content

    def _header(self) -> None:
        """NumPy pads its header for the first axis to grow, so that it can be written over."""
        shape = (self._count, *self._row)
        header = {"descr": self._dtype, "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(self._file, header)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        with self._file:
            if kind is None:
                self._file.seek(0)
                self._header()
                self._file.flush()
                os.fsync(self._file.fileno())


def _write_json(path: Path, content: Any) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())


def _too_full(folder: Path, needed: int) -> UserError:
    free = shutil.disk_usage(folder.parent).free
    return UserError(
        f"{folder}: needs {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free; "
        "make room, choose a smaller data.size, or set SAFELIGHT_CACHE to a folder on another disk"
    )


def _some(bad: list[str] | tuple[str, ...]) -> str:
    rest = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    return ", ".join(bad[:NAMED]) + rest

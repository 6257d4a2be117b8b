"""Making packs: items decoded block by block on several processes; a pack is there whole or not at all.

A packing that was stopped or killed leaves <pack>.partial, and the next one of the same items goes on there.
"""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from filelock import FileLock

from safelight.config import UserError
from safelight.data.cache import cache_dir, move_into_place
from safelight.data.finish import finish, mask_classes
from safelight.data.jobs import PLAN, Plan, results
from safelight.data.pack import FORMAT, Pack, load
from safelight.data.slots import Record, Slots
from safelight.data.source import Items, Progress, Source, key
from safelight.terminal import plain

NAMED = 5  # bad items an error names; it counts the others
RECORDS = "blocks.jsonl"


def open_pack(
    source: Source,
    held_out: float,
    skip_bad: bool,
    progress: Progress | None = None,
    processes: int | None = None,
) -> Pack:
    """The source's pack: the one in the cache, or a new one. Safe with several processes at once.

    processes: that decode; by default one for each core where there is enough to do.
    Raises UserError where items are bad and `skip_bad` is false, or the disk is too full.
    """
    folder = pack_folder(source)
    pack = load(folder, held_out)
    if pack is None:
        with FileLock(f"{folder}.lock"):
            pack = load(folder, held_out) or _pack(source, folder, held_out, progress, processes)
    if pack.bad and not skip_bad:
        raise UserError(
            f"{plain(source.name)}: {len(pack.bad)} of {len(pack) + len(pack.bad)} images cannot be used: "
            f"{_some(pack.bad)}; mend or remove them, or set data.skip_bad=true"
        )
    return pack


def pack_folder(source: Source) -> Path:
    """Where the source's pack is, or will be."""
    slug = re.sub(r"[^A-Za-z0-9.-]+", "-", source.name)[:40]
    return cache_dir("packs") / f"{slug}-{key(FORMAT, source.key)[:16]}"


def _pack(
    source: Source, folder: Path, held_out: float, progress: Progress | None, processes: int | None
) -> Pack:
    """Write a pack beside its place, then move it there. The caller holds the lock."""
    shutil.rmtree(folder, ignore_errors=True)  # a pack that cannot be read
    partial = folder.with_name(f"{folder.name}.partial")
    items = source.items()
    height, width, channels = items.shape
    slots = Slots(partial, len(items.names), (height, width, channels or 3), items.masks is not None)
    try:
        partial.mkdir(exist_ok=True)
        records = _decode(source.name, items, slots, progress, processes)
        bad = [f"{items.names[item]} ({reason})" for one in records for item, reason in one.bad.items()]
        if len(bad) == len(items.names):
            shutil.rmtree(partial)
            raise UserError(
                f"{plain(source.name)}: none of its {len(bad)} images can be decoded: {_some(bad)}; mend them"
            )
        finish(source.name, items, slots, records)
        for scaffold in (partial / RECORDS, partial / PLAN):
            scaffold.unlink(missing_ok=True)
        move_into_place(partial, folder)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise UserError(
                f"{partial}: cannot be written ({error.strerror}); set SAFELIGHT_CACHE"
            ) from error
        shutil.rmtree(partial, ignore_errors=True)
        raise _too_full(folder, _bytes(slots)) from error
    pack = load(folder, held_out)
    if pack is None:
        raise RuntimeError(f"{folder}: was written, but cannot be read back")
    return pack


def _decode(
    name: str, items: Items, slots: Slots, progress: Progress | None, processes: int | None
) -> list[Record]:
    """Fill the slots that are not filled yet; the records of all blocks, in their order."""
    records = _filled(slots)
    done = {record.block for record in records}
    left = [block for block in range(slots.blocks) if block not in done]
    needed = _bytes(slots) * len(left) // slots.blocks
    if needed > shutil.disk_usage(slots.folder).free:
        raise _too_full(slots.folder, needed)
    count = sum(len(slots.items(block)) for block in done)

    def tell(more: int) -> None:
        nonlocal count
        count += more
        if progress:
            progress(f"packing {plain(name)}", count, slots.count)

    tell(0)
    with ExitStack() as stack:
        file = stack.enter_context((slots.folder / RECORDS).open("w", encoding="utf-8"))
        file.writelines(f"{record.to_json()}\n" for record in records)
        lines = results(Plan(items.reader, slots), "pack", left, processes, tell)
        for _, line in stack.enter_context(closing(lines)):
            record = Record.from_json(line)
            if items.masks:
                mask_classes(record.classes, items.masks.classes)  # refused at once, and not after hours
            records.append(record)
            print(line.strip(), file=file, flush=True)
    return sorted(records, key=lambda record: record.block)


def _filled(slots: Slots) -> list[Record]:
    """The records of blocks that an earlier packing filled; makes the files where there was none."""
    if not all(file.is_whole() for file in slots.files):
        for file in slots.files:
            file.create()
        return []
    records: dict[int, Record] = {}
    try:
        for line in (slots.folder / RECORDS).read_text(encoding="utf-8").splitlines():
            record = Record.from_json(line)
            records[record.block] = record
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or the last line is torn
        pass
    return [record for record in records.values() if record.block < slots.blocks and slots.holds(record)]


def _bytes(slots: Slots) -> int:
    return sum(file.row * file.shape[0] for file in slots.files)


def _too_full(folder: Path, needed: int) -> UserError:
    free = shutil.disk_usage(folder.parent).free
    return UserError(
        f"{folder}: needs {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free; "
        "make room, choose a smaller data.size, or set SAFELIGHT_CACHE to a folder on another disk"
    )


def _some(bad: Sequence[str]) -> str:
    rest = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    return ", ".join(plain(one) for one in bad[:NAMED]) + rest

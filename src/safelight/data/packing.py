"""Make packs: decode items block by block, on several processes where that is worth it.

A pack is there whole or not at all. A packing that was stopped or killed leaves <pack>.partial, and the next
one of the same items goes on there.

Other processes run `python -m safelight.data.packing JOB FOLDER`: FOLDER/plan.json describes the items, a
line in is a block's number, a line out its result. Unlike those of multiprocessing they never run the script
or notebook that started them, and they end with it, as their input is closed.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from queue import SimpleQueue
from threading import Event

from filelock import FileLock

from safelight.config import UserError
from safelight.data.blocks import BlockRecord, Slots, look
from safelight.data.cache import cache_dir
from safelight.data.finish import finish
from safelight.data.images import FileReader, quiet, reader_of
from safelight.data.masks import numbering
from safelight.data.pack import FORMAT, Pack, load
from safelight.data.source import ImageReader, Items, Progress, Source, key
from safelight.fanout import each, pool
from safelight.store.durable import publish
from safelight.terminal import plain

PLAN = "plan.json"
RECORDS = "blocks.jsonl"
WORTH = 3.0  # seconds of work left from which on other processes are worth starting
NAMED = 5  # bad items an error names; it counts the others


@dataclass(frozen=True)
class PackingPlan:
    """What a block of items is, and where their pixels go."""

    reader: ImageReader
    slots: Slots

    def run(self, job: str, block: int, tick: Callable[[int], None] = lambda item: None) -> str:
        """One block's result, as a line of JSON. Raises UserError where the disk is at fault.

        job: "pack" decodes into the slots (a `BlockRecord`), "look" inspects each item (a list of `Look`).
        """
        with quiet():
            if job == "pack":
                return self.slots.fill(block, self.reader, tick).to_json()
            looks = []
            for item in self.slots.items(block):
                looks.append(asdict(look(self.reader, item)))
                tick(item)
            return json.dumps(looks)

    def write(self) -> None:
        """Write it for other processes, into the folder of the slots."""
        assert isinstance(self.reader, FileReader)
        slots = {"count": self.slots.count, "shape": self.slots.shape, "masked": self.slots.masked}
        content = json.dumps({"reader": self.reader.describe(), "slots": slots})
        (self.slots.folder / PLAN).write_text(content, encoding="utf-8")


def cores() -> int:
    """Processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def results(
    plan: PackingPlan, job: str, blocks: Sequence[int], processes: int | str | None,
    progress: Progress | None, what: str,
) -> Generator[tuple[int, str], None, None]:  # fmt: skip
    """(block, result) as they come: from here, and from other processes once that is seen to be worth it.

    processes: how many with this one, or where, see `fanout.pool`; by default one for each core. what: the
    work, for `progress`.
    Raises UserError, or OSError where the slots cannot be written.
    """
    done = plan.slots.count - sum(len(plan.slots.items(block)) for block in blocks)

    def advance(items: int) -> None:
        nonlocal done
        done += items
        if progress:
            progress(what, done, plan.slots.count)

    advance(0)
    if isinstance(processes, str):
        if isinstance(plan.reader, FileReader):
            yield from _in_pool(plan, job, blocks, processes, advance)
            return
        processes = 1  # what is in memory already is not sent elsewhere
    start, count = time.monotonic(), processes or cores()
    for place, block in enumerate(blocks):
        left = len(blocks) - place
        seconds = (time.monotonic() - start) / place * left if place else 0.0
        several = count > 1 and left > 1 and isinstance(plan.reader, FileReader)
        if several and (processes or seconds > WORTH):
            yield from _parallel(plan, job, blocks[place:], min(count, left) - 1, advance)
            return
        yield block, plan.run(job, block, lambda item: advance(1))


def _in_pool(
    plan: PackingPlan, job: str, blocks: Sequence[int], on: str, advance: Callable[[int], None]
) -> Generator[tuple[int, str], None, None]:
    """`results` from the pool that `on` names."""
    plan.write()
    folder = plan.slots.folder.absolute()
    with pool(on, len(blocks), folder, threads=1, device="cpu") as workers:
        for place, line in each(workers, _block, [(folder, job, block) for block in blocks]):
            advance(len(plan.slots.items(blocks[place])))
            yield blocks[place], line


def _block(folder: Path, job: str, block: int) -> str:
    return _read_plan(folder).run(job, block)


def _parallel(
    plan: PackingPlan, job: str, blocks: Sequence[int], others: int, advance: Callable[[int], None]
) -> Generator[tuple[int, str], None, None]:
    """`results` from this process and from that many others."""
    plan.write()
    stopping, free = Event(), SimpleQueue[Callable[[int], str]]()

    def tick(item: int) -> None:
        if stopping.is_set():
            raise CancelledError

    def result(block: int) -> tuple[int, str]:
        process = free.get()
        try:
            return block, process(block)
        finally:
            free.put(process)

    with (
        ExitStack() as stack
    ):  # left in reverse: nothing more is begun, what runs is stopped, then waited for
        workers = [_worker(job, plan.slots.folder) for _ in range(others)]
        for worker in workers:
            stack.callback(worker.communicate)
        pool = stack.enter_context(ThreadPoolExecutor(others + 1))
        free.put(partial(plan.run, job, tick=tick))
        for worker in workers:
            free.put(partial(_ask, worker))
            stack.callback(worker.terminate)
        stack.callback(stopping.set)
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        for future in as_completed([pool.submit(result, block) for block in blocks]):
            block, line = future.result()
            advance(len(plan.slots.items(block)))
            yield block, line


def _worker(job: str, folder: Path) -> subprocess.Popen[str]:
    """A process of this module; -P: it imports nothing from the folder it is started in."""
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "safelight.data.packing", job, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OPENBLAS_NUM_THREADS": "1"},
    )


def _ask(worker: subprocess.Popen[str], block: int) -> str:
    """A worker's result. Raises UserError where it fails or has ended, OSError where its disk is at fault."""
    assert worker.stdin
    assert worker.stdout
    try:
        print(block, file=worker.stdin, flush=True)
        answer = worker.stdout.readline()
    except (OSError, ValueError):  # an end of the pipe is closed
        answer = ""
    if not answer:
        raise UserError(
            f"a decoding process ended unexpectedly (exit code {worker.wait()}); if memory ran out, use "
            "fewer processes. Packed blocks are kept: run the command again to continue"
        )
    if answer.startswith('{"error"'):
        problem = json.loads(answer)
        if "errno" in problem:
            raise OSError(problem["errno"], problem["error"])
        raise UserError(problem["error"])
    return answer


@lru_cache(1)
def _read_plan(folder: Path) -> PackingPlan:
    content = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    count, shape, masked = (content["slots"][name] for name in ("count", "shape", "masked"))
    return PackingPlan(reader_of(content["reader"]), Slots(folder, count, tuple(shape), masked))


def main(job: str, folder: Path) -> None:
    """Answer lines until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints does not mix with the answers
    plan = _read_plan(folder)
    for line in sys.stdin:
        try:
            answer = plan.run(job, int(line))
        except UserError as error:
            answer = json.dumps({"error": str(error)})
        except OSError as error:  # of what it writes: what it reads is a UserError or a bad item
            answer = json.dumps({"error": error.strerror, "errno": error.errno})
        print(answer, file=answers, flush=True)


def open_pack(
    source: Source, held_out: float, skip_bad: bool, progress: Progress | None = None,
    processes: int | str | None = None,
) -> Pack:  # fmt: skip
    """The source's pack: the one in the cache, or a new one. Safe with several processes at once.

    processes: that decode; by default one for each core where there is enough to do.
    Raises UserError where items are bad and `skip_bad` is false, or the disk is too full.
    """
    slug = re.sub(r"[^A-Za-z0-9.-]+", "-", source.name)[:40]
    folder = cache_dir("packs") / f"{slug}-{key(FORMAT, source.key)[:16]}"
    pack = load(folder, held_out)
    if pack is None:
        with FileLock(f"{folder}.lock"):
            pack = load(folder, held_out) or _pack(source, folder, held_out, progress, processes)
    return require_good(replace(pack, notes=(*source.notes, *pack.notes)), source.name, skip_bad)


def require_good(pack: Pack, name: str, skip_bad: bool) -> Pack:
    """The pack of a source. Raises UserError where images are bad that may not be left out."""
    if pack.bad and not skip_bad:
        count = sum(map(len, pack.parts)) + len(pack.bad)
        raise UserError(
            f"{plain(name)}: {len(pack.bad)} of {count} images cannot be used: "
            f"{_some(pack.bad)}; mend or remove them, or set data.skip_bad=true"
        )
    return pack


def _pack(
    source: Source, folder: Path, held_out: float, progress: Progress | None, processes: int | str | None
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
        bad = [f"{items.names[item]} ({reason})" for record in records for item, reason in record.bad.items()]
        if records and sum(len(record.left_out) for record in records) + len(bad) == len(items.names) > len(
            bad
        ):
            shutil.rmtree(partial)
            raise UserError(f"data.smallest: leaves out every image of {plain(source.name)}; lower it")
        if len(bad) == len(items.names):
            shutil.rmtree(partial)
            raise UserError(
                f"{plain(source.name)}: none of its {len(bad)} images can be decoded: {_some(bad)}; mend them"
            )
        finish(source.name, items, slots, records)
        for scaffold in (RECORDS, PLAN):
            (partial / scaffold).unlink(missing_ok=True)
        publish(partial, folder)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise UserError(
                f"{partial}: cannot be written ({error.strerror}); set SAFELIGHT_CACHE"
            ) from error
        shutil.rmtree(partial, ignore_errors=True)
        raise _too_full(folder, slots.size) from error
    pack = load(folder, held_out)
    if pack is None:
        raise RuntimeError(f"{folder}: was written, but cannot be read back")
    return pack


def _decode(
    name: str, items: Items, slots: Slots, progress: Progress | None, processes: int | str | None
) -> list[BlockRecord]:
    """Fill the slots that are not filled yet; the records of all blocks, in their order."""
    records = _filled(slots)
    done = {record.block for record in records}
    left = [block for block in range(slots.blocks) if block not in done]
    needed = slots.size * len(left) // slots.blocks
    if needed > shutil.disk_usage(slots.folder).free:
        raise _too_full(slots.folder, needed)
    plan = PackingPlan(items.reader, slots)
    lines = results(plan, "pack", left, processes, progress, f"packing {plain(name)}")
    with (slots.folder / RECORDS).open("w", encoding="utf-8") as file, closing(lines):
        file.writelines(f"{record.to_json()}\n" for record in records)
        for _, line in lines:
            record = BlockRecord.from_json(line)
            if items.masks:
                numbering(record.classes, False, items.masks.classes, items.masks.values)  # refused at once
            records.append(record)
            print(line.strip(), file=file, flush=True)
    return sorted(records, key=lambda record: record.block)


def _filled(slots: Slots) -> list[BlockRecord]:
    """The records of blocks that an earlier packing filled; makes the files where there was none."""
    if not all(file.is_whole() for file in slots.files):
        for file in slots.files:
            file.create()
        return []
    records: dict[int, BlockRecord] = {}
    try:
        for line in (slots.folder / RECORDS).read_text(encoding="utf-8").splitlines():
            record = BlockRecord.from_json(line)
            records[record.block] = record
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or the last line is torn
        pass
    return [record for record in records.values() if record.block < slots.blocks and slots.holds(record)]


def _too_full(folder: Path, needed: int) -> UserError:
    free = shutil.disk_usage(folder.parent).free
    return UserError(
        f"{folder}: needs {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free; "
        "make room, choose a smaller data.size, or set SAFELIGHT_CACHE to a folder on another disk"
    )


def _some(bad: Sequence[str]) -> str:
    rest = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    return ", ".join(plain(item) for item in bad[:NAMED]) + rest


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

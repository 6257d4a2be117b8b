"""Making packs: items decoded block by block on several processes; a pack is there whole or not at all.

A packing that was stopped or killed leaves <pack>.partial, and the next one of the same items goes on there.
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
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

from filelock import FileLock

from safelight.config import UserError
from safelight.data.blocks import BlockRecord, Slots
from safelight.data.cache import cache_dir, move_into_place
from safelight.data.finish import finish, mask_classes
from safelight.data.images import FileReader, quiet, reader_of
from safelight.data.look import look
from safelight.data.pack import FORMAT, Pack, load
from safelight.data.source import ImageReader, Items, Progress, Source, key
from safelight.terminal import plain

# --- Work on blocks of items, here or on several processes, which are told of it by a file ---

PLAN = "plan.json"
WORTH = 3.0  # seconds of work left from which on other processes are worth starting
Tick = Callable[[int], None]


@dataclass(frozen=True)
class PackingPlan:
    """What a block of items is, and where their pixels go."""

    reader: ImageReader
    slots: Slots

    def do(self, job: str, block: int, tick: Tick = lambda item: None) -> str:
        """One block's result, as a line of JSON. Raises UserError where the disk is at fault.

        job: "pack" decodes into the slots (a `Record`), "look" at each item (a list of `Look`).
        """
        with quiet():
            if job == "pack":
                return self.slots.fill(block, self.reader, tick).to_json()
            looks = []
            for item in self.slots.items(block):
                looks.append(look(self.reader, item).to_plain())
                tick(item)
            return json.dumps(looks)

    def write(self) -> None:
        """Put it down for other processes, in the folder of the slots."""
        assert isinstance(self.reader, FileReader)
        slots = {"count": self.slots.count, "shape": self.slots.shape, "masked": self.slots.masked}
        content = json.dumps({"reader": self.reader.describe(), "slots": slots})
        (self.slots.folder / PLAN).write_text(content, encoding="utf-8")


def read_plan(folder: Path) -> PackingPlan:
    """The plan in a folder."""
    content = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    slots = content["slots"]
    return PackingPlan(
        reader_of(content["reader"]), Slots(folder, slots["count"], tuple(slots["shape"]), slots["masked"])
    )


def cores() -> int:
    """Processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def results(
    plan: PackingPlan, job: str, blocks: Sequence[int], processes: int | None, tell: Callable[[int], None]
) -> Generator[tuple[int, str], None, None]:
    """(block, result) as they come: from here, and from other processes once that is seen to be worth it.

    processes: how many with this one; by default one for each core. tell: called with how many items more
    are done. Raises UserError, or OSError where the slots cannot be written.
    """
    begun, count = time.monotonic(), processes or cores()
    for place, block in enumerate(blocks):
        left = len(blocks) - place
        seconds = (time.monotonic() - begun) / place * left if place else 0.0
        several = count > 1 and left > 1 and isinstance(plan.reader, FileReader)
        if several and (processes or seconds > WORTH):
            with closing(_together(plan, job, blocks[place:], min(count, left) - 1, tell)) as rest:
                yield from rest
            return
        yield block, plan.do(job, block, lambda item: tell(1))


def _together(
    plan: PackingPlan, job: str, blocks: Sequence[int], others: int, tell: Callable[[int], None]
) -> Generator[tuple[int, str], None, None]:
    """`results` from here and from that many other processes, each taking the next block when it is free."""
    plan.write()
    waiting: SimpleQueue[int] = SimpleQueue()
    answers: SimpleQueue[tuple[int, str] | Exception] = SimpleQueue()
    for block in blocks:
        waiting.put(block)

    def serve(worker: Worker) -> None:
        try:
            while True:
                block = waiting.get_nowait()
                answers.put((block, worker.ask(block)))
        except Empty:
            pass
        except Exception as error:
            answers.put(error)

    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(job, plan.slots.folder)) for _ in range(others)]
        threads = [Thread(target=serve, args=(worker,)) for worker in workers]
        for thread in threads:
            thread.start()
            stack.callback(thread.join)
        for worker in workers:  # called first when something fails: a thread then waits for no answer
            stack.callback(worker.stop)
        for _ in blocks:
            while answers.empty():
                try:
                    block = waiting.get_nowait()
                except Empty:  # others have what is left
                    break
                answers.put((block, plan.do(job, block)))
            answer = answers.get()
            if isinstance(answer, Exception):
                raise answer
            tell(len(plan.slots.items(answer[0])))
            yield answer


class Worker:
    """A process of safelight.data.packing."""

    def __init__(self, job: str, folder: Path) -> None:
        package = str(Path(__file__).parents[2])
        paths = [package, os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "safelight.data.packing",
                job,
                str(folder),
            ],  # nothing out of the cwd
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, paths)),
                "OPENBLAS_NUM_THREADS": "1",
            },
        )

    def ask(self, block: int) -> str:
        """Its result for a block. Raises UserError where it fails or has gone, OSError where its disk is."""
        assert self._process.stdin
        assert self._process.stdout
        try:
            print(block, file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except (OSError, ValueError):  # its end of the pipe is closed, or ours
            answer = ""
        if not answer:
            code = self._process.wait()
            raise UserError(
                f"a decoding process ended unexpectedly (exit code {code}); if the memory was full, try "
                "fewer processes. What is packed is kept: the same command goes on from there"
            )
        if answer.startswith('{"error"'):
            problem = json.loads(answer)
            if "errno" in problem:
                raise OSError(problem["errno"], problem["error"])
            raise UserError(problem["error"])
        return answer

    def stop(self) -> None:
        """End it; what it has written stays."""
        self._process.terminate()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.communicate()


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
) -> list[BlockRecord]:
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
        lines = results(PackingPlan(items.reader, slots), "pack", left, processes, tell)
        for _, line in stack.enter_context(closing(lines)):
            record = BlockRecord.from_json(line)
            if items.masks:
                mask_classes(record.classes, items.masks.classes)  # refused at once, and not after hours
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


# --- A process that works on blocks of items: `python -m safelight.data.packing JOB FOLDER` ---
# FOLDER/plan.json says what the items are; a block's number comes in as a line, its result goes out as one.
# Started like this, and not by multiprocessing, it never runs the script or notebook that asked for it, and
# it ends when that ends: its input is closed.


def main(job: str, folder: Path) -> None:
    """Answer lines until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asked
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints does not mix with the answers
    plan = read_plan(folder)
    for line in sys.stdin:
        try:
            answer = plan.do(job, int(line))
        except UserError as error:
            answer = json.dumps({"error": str(error)})
        except OSError as error:  # of what it writes: what it reads is a UserError or a bad item
            answer = json.dumps({"error": error.strerror, "errno": error.errno})
        print(answer, file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

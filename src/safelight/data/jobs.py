"""Work on blocks of items, here or on several processes, which are told of it by a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

from safelight.config import UserError
from safelight.data.image import quiet
from safelight.data.look import look
from safelight.data.reader import FileReader, reader_of
from safelight.data.slots import Slots
from safelight.data.source import Reader

PLAN = "plan.json"
WORTH = 3.0  # seconds of work left from which on other processes are worth starting

Tick = Callable[[int], None]


@dataclass(frozen=True)
class Plan:
    """What a block of items is, and where their pixels go."""

    reader: Reader
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


def read_plan(folder: Path) -> Plan:
    """The plan in a folder."""
    content = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    slots = content["slots"]
    return Plan(
        reader_of(content["reader"]), Slots(folder, slots["count"], tuple(slots["shape"]), slots["masked"])
    )


def cores() -> int:
    """Processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def results(
    plan: Plan, job: str, blocks: Sequence[int], processes: int | None, tell: Callable[[int], None]
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
    plan: Plan, job: str, blocks: Sequence[int], others: int, tell: Callable[[int], None]
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
    """A process of safelight.data.worker."""

    def __init__(self, job: str, folder: Path) -> None:
        package = str(Path(__file__).parents[2])
        paths = [package, os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "safelight.data.worker", job, str(folder)],  # nothing out of the cwd
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

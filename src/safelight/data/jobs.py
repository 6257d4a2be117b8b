"""Work on blocks of items, here or on several processes, which are told of it by a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

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

    processes: how many; by default one for each core. tell: called with how many items more are done.
    Raises UserError.
    """
    begun, count = time.monotonic(), processes or cores()
    for place, block in enumerate(blocks):
        left = len(blocks) - place
        seconds = (time.monotonic() - begun) / place * left if place else 0.0
        several = count > 1 and left > 1 and isinstance(plan.reader, FileReader)
        if several and (processes or seconds > WORTH):
            with closing(_from_processes(plan, job, blocks[place:], min(count, left))) as rest:
                for own, line in rest:
                    tell(len(plan.slots.items(own)))
                    yield own, line
            return
        yield block, plan.do(job, block, lambda item: tell(1))


def _from_processes(
    plan: Plan, job: str, blocks: Sequence[int], processes: int
) -> Generator[tuple[int, str], None, None]:
    plan.write()
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(job, plan.slots.folder)) for _ in range(processes)]
        idle: SimpleQueue[Worker] = SimpleQueue()
        for worker in workers:
            idle.put(worker)

        def ask(block: int) -> tuple[int, str]:
            worker = idle.get()
            try:
                return block, worker.ask(block)
            finally:
                idle.put(worker)

        threads = ThreadPoolExecutor(processes)
        stack.callback(threads.shutdown, cancel_futures=True)
        for worker in workers:  # called first when something fails: a thread then waits for no answer
            stack.callback(worker.stop)
        for done in as_completed([threads.submit(ask, block) for block in blocks]):
            yield done.result()


class Worker:
    """A process of safelight.data.worker."""

    def __init__(self, job: str, folder: Path) -> None:
        package = str(Path(__file__).parents[2])
        paths = [package, os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "safelight.data.worker", job, str(folder)],
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
                f"a packing process ended unexpectedly (exit code {code}); if the memory was full, try "
                "fewer processes. What is packed is kept: the same command goes on from there"
            )
        if answer.startswith('{"error"'):
            problem = json.loads(answer)
            raise (
                OSError(problem["errno"], problem["error"])
                if "errno" in problem
                else UserError(problem["error"])
            )
        return answer

    def stop(self) -> None:
        """End it; what it has written stays."""
        self._process.terminate()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.communicate()

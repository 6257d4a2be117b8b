"""Work on blocks of items, here or on several processes, which are told of it by a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from safelight.config import UserError
from safelight.data.look import look
from safelight.data.reader import FileReader, reader_of
from safelight.data.slots import Slots

PLAN = "plan.json"


@dataclass(frozen=True)
class Plan:
    """What a block of items is, and where their pixels go."""

    reader: FileReader
    slots: Slots

    def do(self, job: str, block: int) -> str:
        """One block's result, as a line of JSON. Raises UserError where the disk is at fault."""
        if job == "pack":
            return self.slots.fill(block, self.reader).to_json()
        return json.dumps([look(self.reader, item).to_plain() for item in self.slots.items(block)])

    def write(self) -> None:
        """Put it down for other processes, in the folder of the slots."""
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


def on_processes(plan: Plan, job: str, blocks: Iterable[int], processes: int) -> Generator[str, None, None]:
    """The results of blocks as they come, from that many processes. Raises UserError."""
    plan.write()
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(job, plan.slots.folder)) for _ in range(processes)]
        idle: SimpleQueue[Worker] = SimpleQueue()
        for worker in workers:
            idle.put(worker)

        def ask(block: int) -> str:
            worker = idle.get()
            try:
                return worker.ask(block)
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
        """Its result for a block. Raises UserError where it fails or has gone."""
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
            raise UserError(json.loads(answer)["error"])
        return answer

    def stop(self) -> None:
        """End it; what it has written stays."""
        self._process.terminate()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.communicate()

"""Several processes for a test, in a moment: a server that has imported safelight, and forks.

Importing torch takes seconds, a fork milliseconds. The server is a fresh process without threads, which is
what makes forking it safe. `python tests/forks.py` is the server; `Forks` is the test's side of it.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

CLONE_NEWNET = 0x40000000


def command(*words: str) -> None:
    """`safelight WORDS`."""
    import safelight.cli

    sys.argv = ["safelight", *words]
    safelight.cli.main()


class Launch:
    """Processes that were started together."""

    def __init__(self, pids: list[int], folder: Path, answer: Callable[[], list[int]]) -> None:
        self.pids, self._folder, self._answer = pids, folder, answer

    def wait(self) -> list[int]:
        """Exit codes by rank, negative for a signal."""
        return self._answer()

    def out(self, rank: int = 0) -> str:
        return (self._folder / f"{rank}.out").read_text()

    def err(self, rank: int | None = None) -> str:
        """What a process wrote to stderr; all of them by default."""
        ranks = range(len(self.pids)) if rank is None else [rank]
        return "".join((self._folder / f"{rank}.err").read_text() for rank in ranks)


class Forks:
    """The test's side of the server."""

    def __init__(self, server: subprocess.Popen[str], folder: Path) -> None:
        self._server, self._folder, self._launches = server, folder, 0

    def start(
        self, call: str, arguments: Sequence[Any], processes: int, *, env: Mapping[str, str] | None = None,
        namespaces: Sequence[str] = (), agent: bool = True,
    ) -> Launch:  # fmt: skip
        """Start `module:function(*arguments)` in several processes, ranks and all.

        agent: whether the processes meet at a store that outlives them, as torchrun's agent has it.
        namespaces: network namespace of each process.
        """
        self._launches += 1
        folder = self._folder / str(self._launches)
        folder.mkdir()
        environment = dict(env or {})
        if agent:
            import torch.distributed as dist

            self._store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(self._store.port),
                            "TORCHELASTIC_USE_AGENT_STORE": "True"}  # fmt: skip
        request = {"call": call, "arguments": list(arguments), "processes": processes, "folder": str(folder),
                   "env": environment, "namespaces": list(namespaces)}  # fmt: skip
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return Launch(self._answer(), folder, self._answer)

    def run(self, call: str, arguments: Sequence[Any], processes: int, **options: Any) -> Launch:
        """`start`, wait, and require that every process ended well."""
        launch = self.start(call, arguments, processes, **options)
        codes = launch.wait()
        assert codes == [0] * processes, launch.err()
        return launch

    def _answer(self) -> list[int]:
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        assert line, "the server has ended"
        answer: list[int] = json.loads(line)
        return answer


@contextmanager
def serving(folder: Path) -> Iterator[Forks]:
    """A server for the tests of a module."""
    path = os.pathsep.join(filter(None, sys.path))  # as pytest has it
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    with subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as server:
        yield Forks(server, folder)
        assert server.stdin is not None
        server.stdin.close()


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for a condition. Raises AssertionError where it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def _serve() -> None:
    import matplotlib.font_manager  # noqa: F401
    import torch._dynamo  # noqa: F401 - what torch.optim imports when it is first used

    import safelight.training.start  # noqa: F401

    gc.freeze()  # a child that ends would otherwise copy every page to collect it
    for line in sys.stdin:
        request = json.loads(line)
        pids = []
        for rank in range(request["processes"]):
            pid = os.fork()
            if pid == 0:
                _work(request, rank)
                return
            pids.append(pid)
        print(json.dumps(pids), flush=True)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        print(json.dumps(codes), flush=True)


def _work(request: dict[str, Any], rank: int) -> None:
    """One process of a launch: as torchrun would have started it."""
    folder = Path(request["folder"])
    for descriptor, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / f"{rank}.{name}", os.O_CREAT | os.O_WRONLY), descriptor)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    size, apart = request["processes"], bool(request["namespaces"])
    if apart:
        _enter(request["namespaces"][rank])
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})  # machines of one core each
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": "0" if apart else str(rank),
        "LOCAL_WORLD_SIZE": "1" if apart else str(size),
        **request["env"],
    }
    module, _, name = request["call"].partition(":")
    getattr(import_module(module), name)(*request["arguments"])


def _enter(namespace: str) -> None:
    """Move this process into a network namespace (os.setns comes with Python 3.12)."""
    with open(f"/run/netns/{namespace}") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _serve()

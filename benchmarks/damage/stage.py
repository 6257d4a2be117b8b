"""Commands in forked processes: cheap, limited in time and memory, killed or failed at a system call."""

from __future__ import annotations

import builtins
import errno
import gc
import hashlib
import importlib
import io
import json
import os
import pkgutil
import resource
import select
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 45  # after which a command hangs
MEMORY = 3 << 30  # bytes of address space beyond what the server has
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
Act = Callable[[int, str, str], str]  # number, name and path of a call -> "", "short" or "torn"; may raise


def import_everything() -> None:
    """Once, so that a fork has it. No thread is started: that is what makes forking safe."""
    import matplotlib.pyplot  # noqa: F401
    import torch._dynamo  # noqa: F401 - what torch.optim imports when it is first used

    import safelight

    for module in pkgutil.walk_packages(safelight.__path__, "safelight."):
        if not module.name.endswith("__main__") and ".shipped" not in module.name:
            with suppress(ImportError):  # an extra that is not installed
                importlib.import_module(module.name)
    gc.freeze()  # a child that ends would otherwise copy every page to collect it


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    words: tuple[str, ...]
    code: int  # negative for a signal
    out: str
    err: str
    hung: bool = False


class Calls:
    """Counts the calls that change files under a folder, and acts on each before it happens."""

    def __init__(self, folder: Path, act: Act = lambda number, name, path: "", reads: bool = False) -> None:
        self.folder, self.act, self.reads = str(folder), act, reads
        self.seen: list[tuple[str, str]] = []

    def happened(self, name: str, path: Any) -> str:
        """One call, before it happens. Raises what `act` raises."""
        if isinstance(path, int):
            with suppress(OSError):
                path = os.readlink(f"/proc/self/fd/{path}")
        path = os.path.abspath(os.fsdecode(path)) if isinstance(path, str | bytes | os.PathLike) else ""
        if not path.startswith(self.folder):
            return ""
        self.seen.append((name, path[len(self.folder) :]))
        return self.act(len(self.seen), name, path)

    def install(self) -> None:
        """From here on, in this process, for good."""
        sys.addaudithook(self._audit)
        fsync, write, opened = os.fsync, os.write, io.open

        def os_fsync(fd: Any) -> None:
            self.happened("fsync", fd)
            fsync(fd)

        def os_write(descriptor: int, data: Any) -> int:
            return write(descriptor, self._part(self.happened("write", descriptor), data, descriptor, write))

        calls = self

        class Raw(io.FileIO):
            def write(self, data: Any) -> int:
                what = calls.happened("write", self.fileno())
                return super().write(calls._part(what, data, self.fileno(), write))

        def io_open(file: Any, mode: str = "r", buffering: int = -1, encoding: str | None = None,
                    errors: str | None = None, newline: str | None = None, closefd: bool = True,
                    opener: Any = None) -> Any:  # fmt: skip
            if not set("wax+") & set(mode):
                return opened(file, mode, buffering, encoding, errors, newline, closefd, opener)
            raw = Raw(file, mode.replace("b", "").replace("t", ""), closefd, opener)
            if buffering == 0:
                return raw
            binary: Any = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            return binary if "b" in mode else io.TextIOWrapper(binary, encoding, errors, newline)

        os.fsync, os.write = os_fsync, os_write
        io.open = builtins.open = io_open

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            flags = arguments[2]
            if flags & WRITES:
                self.happened("open", arguments[0])
            elif self.reads:
                self.happened("read", arguments[0])
        elif event in (
            "os.rename",
            "os.mkdir",
            "os.remove",
            "os.rmdir",
            "os.truncate",
            "os.link",
            "os.symlink",
        ):
            self.happened(event[3:], arguments[0])

    @staticmethod
    def _part(what: str, data: Any, descriptor: int, write: Callable[[int, Any], int]) -> Any:
        """What of the data is to be written: half of it where the disk is short of place."""
        half = memoryview(data)[: max(1, len(data) // 2)]
        if what == "torn":  # half of it is there, and nothing comes after it
            write(descriptor, half)
            os.kill(os.getpid(), signal.SIGKILL)
        return half if what == "short" else data


def killing(at: int, torn: bool = False) -> Act:
    """Ends the process before its call number `at`; torn: in the middle of it, where it writes."""

    def act(number: int, name: str, path: str) -> str:
        if number == at:
            if torn and name == "write":
                return "torn"
            os.kill(os.getpid(), signal.SIGKILL)
        return ""

    return act


def failing(at: int, error: int, names: Sequence[str], lasting: bool) -> Act:
    """An error from call number `at` on, of the named ones; only once unless it is lasting."""
    done: list[int] = []

    def act(number: int, name: str, path: str) -> str:
        if number >= at and name in names and (lasting or not done):
            done.append(number)
            raise OSError(error, os.strerror(error), path)
        return ""

    return act


def short(at: int) -> Act:
    """Every write from `at` on takes half of what it is given: nothing may be lost by that."""
    return lambda number, name, path: "short" if number >= at and name == "write" else ""


FULL = (errno.ENOSPC, ("open", "write", "mkdir"), True)
FAULTS = {
    "the disk is full": FULL,
    "the quota is used up": (errno.EDQUOT, ("write", "mkdir"), True),
    "a write fails": (errno.EIO, ("write",), False),
    "fsync fails": (errno.EIO, ("fsync",), False),
    "fsync fails from now on": (errno.EIO, ("fsync",), True),
    "rename fails": (errno.EIO, ("rename",), False),
    "a rename is refused": (errno.EACCES, ("rename",), True),
    "the disk is read-only": (errno.EROFS, ("open", "mkdir", "rename", "remove", "rmdir", "truncate"), True),
    "a file is not removed": (errno.EIO, ("remove", "rmdir", "truncate"), False),
}


def start(
    words: Sequence[str],
    box: Path,
    *,
    calls: Calls | None = None,
    env: Mapping[str, str] | None = None,
    report: bool = False,
    call: Callable[[], None] | None = None,
    seen: Path | None = None,
) -> tuple[int, Any, Any]:
    """A process that runs `safelight WORDS` in box/: its id, and the files of its stdout and stderr.

    report: whether the report is written at the end of a training, which takes longer than all of it.
    """
    out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - closed by `finish`
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid, out, err
    try:
        for file, descriptor in ((out, 1), (err, 2)):
            os.dup2(file.fileno(), descriptor)
        with open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        os.setsid()
        code = _run(words, box, calls, {**(env or {})}, report, call)
        if seen and calls:
            seen.write_text(json.dumps(calls.seen))
    except BaseException:
        code = 1
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _run(
    words: Sequence[str],
    box: Path,
    calls: Calls | None,
    env: dict[str, str],
    report: bool,
    call: Callable[[], None] | None,
) -> int:
    os.chdir(box)
    os.environ |= {"SAFELIGHT_RUNS": "runs", "SAFELIGHT_NO_CHECK": "1", "COLUMNS": "200", **env}
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import safelight.cli
    import safelight.training.start

    if not report:
        vars(safelight.training.start)["write_report"] = lambda directory: directory.path
    if calls:
        calls.install()
    sys.argv = ["safelight", *words]
    try:
        (call or safelight.cli.main)()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def finish(words: Sequence[str], process: tuple[int, Any, Any], seconds: float = SECONDS,
           kill: bool = False) -> Outcome:  # fmt: skip
    """Wait for a process; after so many seconds it is killed: as the trial has it, or because it hangs."""
    pid, out, err = process
    descriptor = os.pidfd_open(pid)
    over = not select.select([descriptor], [], [], seconds)[0]
    os.close(descriptor)
    if over:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # what it has started
    texts = []
    for file in (out, err):
        file.seek(0)
        texts.append(file.read(1 << 20).decode(errors="replace"))
        file.close()
    return Outcome(tuple(words), code, texts[0], texts[1], over and not kill)


def command(*words: str, box: Path, seconds: float = SECONDS, kill: bool = False, **options: Any) -> Outcome:
    """`safelight WORDS` in box/, and how it ended."""
    return finish(words, start(words, box, **options), seconds, kill)


def contents(folder: Path, leave: Callable[[str], bool] = lambda name: False) -> dict[str, str]:
    """Every file under a folder: what it is and holds. Links are not followed, and nothing else is opened."""
    digests: dict[str, str] = {}
    for at, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not leave(os.path.relpath(os.path.join(at, name), folder))]
        for name in [*folders, *files]:
            path = Path(at, name)
            relative = str(path.relative_to(folder))
            if leave(relative):
                continue
            if path.is_symlink():
                digests[relative] = f"-> {os.readlink(path)}"
            elif path.is_file():
                big = path.stat().st_size > 1 << 26
                digests[relative] = (
                    str(path.stat().st_size) if big else hashlib.sha256(path.read_bytes()).hexdigest()
                )
            else:
                digests[relative] = f"mode {path.lstat().st_mode:o}"
    return digests

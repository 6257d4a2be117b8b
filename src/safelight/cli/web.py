"""safelight web."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Annotated

import typer

from safelight.cli.options import RunsOption, examples
from safelight.config import UserError
from safelight.store.directory import find, runs_directory
from safelight.terminal import say

app = typer.Typer()


@app.command(epilog=examples("safelight web", "safelight web digits-1 calmer --port 8500"))
def web(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN", help="Runs to open first: one, or several side by side."),
    ] = None,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 for any.")
    ] = 8420,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on. The link with its token is needed anywhere.")
    ] = "127.0.0.1",
    browse: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = False,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Show runs without offering to change anything.")
    ] = False,
    beside: Annotated[
        bool, typer.Option("--beside", hidden=True, help="Quit when the training that started it ends.")
    ] = False,
    runs: RunsOption = None,
) -> None:
    """Show runs in a browser: timelines, curves, side by side, models under sliders.

    Prints a link that lets one browser in. Ctrl-C stops the server; trainings go on.
    """
    require_web()
    from safelight.web.serve import serve

    folder = runs_directory(runs)
    first = [find(name, folder).name for name in names or []]
    serve(folder, first, host=host, port=port, browse=browse, read_only=read_only, beside=beside,
          tell=partial(say, err=False))  # fmt: skip


def require_web() -> None:
    """Raises UserError without the extra `web`."""
    for name in ("starlette", "uvicorn"):
        if find_spec(name) is None:
            raise UserError(f"the page needs {name}: pip install 'safelight[web]'")


@contextmanager
def page_beside(wanted: bool, runs: Path | None, names: Sequence[str] = ()) -> Iterator[None]:
    """The page in a process of its own, for as long as the block lasts, which goes on whatever becomes of it.

    It is niced, reads models on the CPU, and ends when its stdin does, so also when this process is killed.
    """
    if not wanted:
        yield
        return
    require_web()
    folder = runs_directory(runs).absolute()
    command = [
        sys.executable,
        "-m",
        "safelight",
        "web",
        *names,
        "--port",
        "0",
        "--beside",
        "--runs",
        str(folder),
    ]
    process = None
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "SAFELIGHT_DEVICE": "cpu"}, start_new_session=True,
        )  # fmt: skip
        relay = Thread(target=_relay, args=(process,), daemon=True)
        relay.start()
    except OSError as error:
        say(f"--web: cannot be started ({error}); training goes on", err=True)
    try:
        yield
    finally:
        if process and process.stdin:
            with suppress(OSError):
                process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()
            relay.join(1)
            if process.stdout and not relay.is_alive():
                process.stdout.close()


def _relay(process: subprocess.Popen[str]) -> None:
    for line in process.stdout or ():
        say(f"page: {line.rstrip()}", err=True)

"""safelight web."""

from __future__ import annotations

from functools import partial
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
    runs: RunsOption = None,
) -> None:
    """Show runs in a browser: timelines, curves, side by side, models under sliders.

    Prints a link that lets one browser in. Ctrl-C stops the server; trainings go on.
    """
    try:
        from safelight.web.serve import serve
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise UserError(f"the page needs {error.name}: pip install 'safelight[web]'") from error
    from safelight.cli import load

    folder = runs_directory(runs)
    first = [find(name, folder).name for name in names or []]
    longer = any(option.name == "steps" for option in load("resume").params)
    serve(folder, first, host=host, port=port, browse=browse, read_only=read_only, longer=longer,
          tell=partial(say, err=False))  # fmt: skip

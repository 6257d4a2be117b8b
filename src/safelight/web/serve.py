"""The server as a process: listen, print the link, go on until Ctrl-C."""

from __future__ import annotations

import os
import socket
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from urllib.parse import quote

import uvicorn

from safelight.config import UserError
from safelight.terminal import Tell
from safelight.web.guard import Guard
from safelight.web.server import application


def serve(
    folder: Path,
    names: Sequence[str],
    *,
    host: str,
    port: int,
    browse: bool,
    read_only: bool,
    tell: Tell,
    beside: bool = False,
) -> None:
    """Serve the page of a folder of runs. Raises UserError for a port in use.

    names: of the runs to begin with. browse: open a browser.
    beside: a training, which goes first: this one is niced, and ends when stdin does.
    """
    if beside:
        os.nice(10)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Of a socket that is not stated to be TCP, asyncio leaves Nagle's algorithm on: 40 ms an answer.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen()  # before the link is told: who comes at once waits
    except (TypeError, UnicodeError) as error:  # a name that cannot be encoded
        listening.close()
        raise UserError(f"--host {host!r}: is no address") from error
    except OSError as error:
        listening.close()
        raise UserError(
            f"--port {port}: cannot listen on {host} ({error.strerror}); choose another"
        ) from error
    port = listening.getsockname()[1]
    app = application(folder, read_only=read_only)
    shown = f"[{host}]" if ":" in host else host if host not in ("0.0.0.0", "::") else socket.gethostname()
    begin = "/" if not names else f"/run/{quote(names[0])}"
    if len(names) > 1:
        begin = "/side?" + "&".join(f"run={quote(name)}" for name in names)

    def used() -> None:
        tell(f"for another browser: http://{shown}:{port}{guard.link()}")

    guard = Guard(app, port, host, used, begin)
    link = f"http://{shown}:{port}{guard.link()}"
    tell(link)
    if "SSH_CONNECTION" in os.environ and host in ("127.0.0.1", "localhost"):
        user, machine = os.environ.get("USER", "user"), socket.gethostname()
        tell(f"from your own machine: ssh -L {port}:127.0.0.1:{port} {user}@{machine}")
    if browse:
        webbrowser.open(link)
    config = uvicorn.Config(guard, log_level="error", access_log=False, server_header=False, lifespan="on",
                            timeout_graceful_shutdown=1)  # fmt: skip
    server = uvicorn.Server(config)
    if beside:

        def leave() -> None:
            sys.stdin.read()
            server.should_exit = True

        Thread(target=leave, daemon=True).start()
    server.run(sockets=[listening])
